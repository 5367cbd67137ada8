package trail

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

// Forwarder gets lines that are in the trail. Forward must not wait, and must not keep the
// line.
type Forwarder interface{ Forward(line []byte) }

// forwardQueue bounds the lines that wait for a slow target.
const forwardQueue = 4096

// target is a queue with a writer behind it.
type target struct {
	name  string
	queue chan []byte
	lost  atomic.Uint64
	open  func(ctx context.Context) (send func([]byte) error, shut func(), err error)
	log   *slog.Logger
}

// NewForwarder returns a forwarder for a target and the function that does its work until
// ctx ends:
//
//	file:/path            appends the lines of JSON to a file
//	syslog://host:port    RFC 5424 messages over TCP, syslog+udp://host:port over UDP,
//	                      syslog+unix:///dev/log to a local socket
//
// A target that is slow or away loses lines, which is logged; it never holds anything up. The
// trail itself has them.
func NewForwarder(to string, log *slog.Logger) (Forwarder, func(context.Context), error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, nil, fmt.Errorf("forward the audit trail to %q: %w", to, err)
	}
	t := &target{name: u.Redacted(), queue: make(chan []byte, forwardQueue), log: log}
	network, address := "", u.Host
	switch u.Scheme {
	case "file":
		if u.Path == "" || u.Host != "" {
			return nil, nil, fmt.Errorf("forward the audit trail to %q: allowed is file:/an/absolute/path", to)
		}
		t.open = func(context.Context) (func([]byte) error, func(), error) {
			f, err := os.OpenFile(u.Path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			if err != nil {
				return nil, nil, err
			}
			return func(line []byte) error { _, err := f.Write(line); return err }, func() { _ = f.Close() }, nil
		}
		return t, t.run, nil
	case "syslog":
		network = "tcp"
	case "syslog+udp":
		network = "udp"
	case "syslog+unix":
		network, address = "unixgram", u.Path
	default:
		return nil, nil, fmt.Errorf("forward the audit trail to %q: allowed are the schemes file, syslog, syslog+udp and syslog+unix", to)
	}
	if address == "" {
		return nil, nil, fmt.Errorf("forward the audit trail to %q: there is no address", to)
	}
	t.open = func(ctx context.Context) (func([]byte) error, func(), error) {
		var d net.Dialer
		ctx, cancel := context.WithTimeout(ctx, sendTimeout)
		defer cancel()
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, nil, err
		}
		return func(line []byte) error {
			_ = c.SetWriteDeadline(time.Now().Add(sendTimeout))
			_, err := c.Write(syslogMessage(line, network == "tcp", time.Now()))
			return err
		}, func() { _ = c.Close() }, nil
	}
	return t, t.run, nil
}

const (
	sendTimeout = 5 * time.Second
	retryPause  = 2 * time.Second
)

// syslogMessage frames a line after RFC 5424, facility 13 (log audit), severity 5 (notice);
// over TCP with its length before it (RFC 6587).
func syslogMessage(line []byte, counted bool, now time.Time) []byte {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "-"
	}
	m := fmt.Appendf(nil, "<109>1 %s %s proximityd %d audit - ", now.UTC().Format("2006-01-02T15:04:05.000000Z07:00"), host, os.Getpid())
	m = append(m, bytes.TrimRight(line, "\n")...)
	if counted {
		return append(fmt.Appendf(nil, "%d ", len(m)), m...)
	}
	return m
}

func (t *target) Forward(line []byte) {
	select {
	case t.queue <- bytes.Clone(line):
	default:
		t.lost.Add(1)
	}
}

// run sends what is queued, and opens the target again when it fails.
func (t *target) run(ctx context.Context) {
	for ctx.Err() == nil {
		send, shut, err := t.open(ctx)
		if err == nil {
			err = t.send(ctx, send)
			shut()
		}
		if ctx.Err() != nil {
			return
		}
		t.log.Warn("could not forward the audit trail, trying again", "to", t.name, "error", err, "lost", t.lost.Swap(0))
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
}

func (t *target) send(ctx context.Context, send func([]byte) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case line := <-t.queue:
			if err := send(line); err != nil {
				t.lost.Add(1)
				return err
			}
			if n := t.lost.Swap(0); n > 0 {
				t.log.Warn("lines of the audit trail were not forwarded: the target is too slow", "to", t.name, "lost", n)
			}
		}
	}
}
