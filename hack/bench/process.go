package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

const (
	// readyWithin bounds the wait for a daemon's first sign of life; it is not a goal.
	readyWithin = time.Minute
	// destroyWithin bounds the removal of an embedded node with its guests.
	destroyWithin = time.Minute
	// logTail is what is told of a daemon's log when it fails.
	logTail = 10
	// maxAnswer bounds pages and metrics.
	maxAnswer = 4 << 20
)

// process is a proximityd with an embedded node.
type process struct {
	bin, dir string
	cmd      *exec.Cmd
	done     chan struct{}
	// readyAfter is how long it took from its start to the line that says ready.
	readyAfter time.Duration
	started    time.Time
	endpoint   *client.Endpoint
	client     *client.Client
	web        *http.Client
	token      string
}

// start starts a daemon and waits until it is ready. Who starts it ends it: with kill,
// and, when nobody needs the node any more, destroy.
func start(ctx context.Context, bin, dir string, args ...string) (*process, error) {
	p := &process{bin: bin, dir: dir, done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, filepath.Join(bin, "proximityd"), append([]string{"--embedded", "--data-dir", dir, "--listen", "127.0.0.1:0"}, args...)...)
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			if s.Text() == "ready" {
				p.readyAfter = time.Since(p.started)
				close(ready)
				break
			}
		}
		_, _ = io.Copy(io.Discard, out) // whatever else it says is in the log
		_ = p.cmd.Wait()
		close(p.done)
	}()
	select {
	case <-ready:
		err = p.connect()
	case <-p.done:
		err = errors.New("the daemon ended before it was ready")
	case <-time.After(readyWithin):
		err = fmt.Errorf("the daemon is not ready after %s", readyWithin)
	}
	if err != nil {
		p.kill()
		return nil, p.withLog(err)
	}
	return p, nil
}

func (p *process) logFile() string { return filepath.Join(p.dir, "bench-daemon.log") }

// withLog adds the end of the daemon's log to an error.
func (p *process) withLog(err error) error {
	data, readErr := os.ReadFile(p.logFile())
	if readErr != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return fmt.Errorf("%w; its log ends:\n    %s", err, strings.Join(lines[max(0, len(lines)-logTail):], "\n    "))
}

func (p *process) connect() error {
	cfg, endpoint, err := client.FromEndpoint(p.endpointFile(), kinds.Registry())
	if err != nil {
		return err
	}
	p.endpoint = endpoint
	if p.client, err = client.New(cfg); err != nil {
		return err
	}
	token, err := os.ReadFile(endpoint.TokenFile)
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(endpoint.CA)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	p.token = strings.TrimSpace(string(token))
	p.web = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true,
	}}
	return nil
}

func (p *process) endpointFile() string { return filepath.Join(p.dir, "endpoint.json") }

// kill ends the daemon as a crash does; its node stays.
func (p *process) kill() {
	if p.client != nil {
		_ = p.client.Close()
	}
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// stop ends the daemon as systemctl stop does.
func (p *process) stop(ctx context.Context) error {
	_ = p.client.Close()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return p.withLog(errors.New("the daemon does not stop"))
	}
}

// destroyNode removes what an embedded daemon left in a data directory: the node's process
// and its guests. The daemon must not run.
func destroyNode(bin, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), destroyWithin) // also after an interrupt
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "proximityd"), "--destroy-node", "--embedded", "--data-dir", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("destroy the embedded node of %s: %w: %s", dir, err, bytes.TrimSpace(out))
	}
	return nil
}

// get reads a page.
func (p *process) get(ctx context.Context, url, host string) (code int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	if req.Host = host; host == "" {
		req.Header.Set("Authorization", "Bearer "+p.token) // for the API alone
	}
	resp, err := p.web.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, string(data), err
}

// counters are what the daemon counts about itself, since its start.
type counters struct {
	storeWrites   float64
	proxmoxWrites float64
	proxmoxReads  float64
	cpuSeconds    float64
}

var (
	commitsLine  = regexp.MustCompile(`(?m)^proximity_store_commits_total (\S+)`)
	requestsLine = regexp.MustCompile(`(?m)^proximity_proxmox_requests_total\{.*method="(\w+)".*\} (\S+)`)
	cpuLine      = regexp.MustCompile(`(?m)^process_cpu_seconds_total (\S+)`)
	rssLine      = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB`)
)

func (p *process) counters(ctx context.Context) (c counters, err error) {
	code, body, err := p.get(ctx, p.endpoint.REST+"/metrics", "")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status %d", code)
	}
	if err != nil {
		return c, fmt.Errorf("read metrics: %w", err)
	}
	one := func(re *regexp.Regexp) float64 {
		m := re.FindStringSubmatch(body)
		if m == nil {
			err = fmt.Errorf("the metrics have no line like %s", re)
			return 0
		}
		v, _ := strconv.ParseFloat(m[1], 64) // Prometheus' own text
		return v
	}
	c.storeWrites, c.cpuSeconds = one(commitsLine), one(cpuLine)
	for _, m := range requestsLine.FindAllStringSubmatch(body, -1) {
		n, _ := strconv.ParseFloat(m[2], 64)
		if m[1] == http.MethodGet {
			c.proxmoxReads += n
		} else {
			c.proxmoxWrites += n
		}
	}
	return c, err
}

// rss is the daemon's resident memory in MiB.
func (p *process) rss() (float64, error) {
	return residentMiB(p.cmd.Process.Pid)
}

// settle waits until the daemon has written nothing to store and Proxmox for a while.
func (p *process) settle(ctx context.Context, quiet time.Duration) error {
	last, since := counters{}, time.Now()
	for time.Since(since) < quiet {
		now, err := p.counters(ctx)
		if err != nil {
			return err
		}
		if now.storeWrites != last.storeWrites || now.proxmoxWrites != last.proxmoxWrites {
			last, since = now, time.Now()
		}
		if err := pause(ctx, quiet/10); err != nil {
			return fmt.Errorf("the daemon does not stop writing: %w", err)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
