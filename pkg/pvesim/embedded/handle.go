package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Handle is a connection to a running node. It holds nothing of the node: closing it,
// or dying with it, leaves the node running.
type Handle struct {
	dataDir  string
	client   *http.Client
	info     Info
	attached bool
}

const (
	// callTimeout bounds one request on the control socket; all but shutdown are answered
	// from memory.
	callTimeout = 5 * time.Second
	// maxControlBody bounds a request or answer on the control socket.
	maxControlBody = 64 << 10
)

// dialControl makes a client of a data directory's control socket.
func dialControl(dataDir string) *Handle {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		path, done, err := socketPath(nodeDir(dataDir))
		if err != nil {
			return nil, err
		}
		defer done()
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	return &Handle{dataDir: dataDir, client: &http.Client{Transport: transport}}
}

// Info tells where the node is and how to log in to it.
func (h *Handle) Info() Info { return h.info }

// Attached tells that the node ran already, with its guests; otherwise it was booted.
func (h *Handle) Attached() bool { return h.attached }

// SetForward says where the forwarder shall connect to ("192.168.50.100:80"); "" for a
// target means that there is none. The node forgets targets when it stops.
func (h *Handle) SetForward(ctx context.Context, httpTarget, httpsTarget string) error {
	return h.call(ctx, http.MethodPut, "/forward", forwardTargets{HTTP: httpTarget, HTTPS: httpsTarget}, nil)
}

// Shutdown stops the node as a machine is shut down: guests in reverse startup order,
// their disks kept. It returns when no process of the node is left. When ctx ends before
// that, the node goes on shutting down.
func (h *Handle) Shutdown(ctx context.Context) error {
	unlock, err := lockNode(ctx, h.dataDir)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := readState(h.dataDir)
	if err != nil {
		return err
	}
	if s.Instance != h.info.Instance || !processAlive(s.PID, s.Started) {
		return nil // gone already, or another one: not ours to stop
	}
	if err := h.call(ctx, http.MethodPost, "/shutdown", nil, nil); err != nil && processAlive(s.PID, s.Started) {
		return fmt.Errorf("shut node down: %w", err)
	}
	if err := waitGone(ctx, s.PID, s.Started); err != nil {
		return fmt.Errorf("shut node down: %w", err)
	}
	return cleanUp(h.dataDir)
}

// Close lets go of the node; it keeps running.
func (h *Handle) Close() error {
	h.client.CloseIdleConnections()
	return nil
}

// refresh asks the node for its Info.
func (h *Handle) refresh(ctx context.Context) error {
	return h.call(ctx, http.MethodGet, "/info", nil, &h.info)
}

func (h *Handle) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("call node: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, body)
	if err != nil {
		return fmt.Errorf("call node: %w", err)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return fmt.Errorf("call node: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxControlBody))
	if err != nil {
		return fmt.Errorf("call node: %w", err)
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("call node: %s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return errors.Join(errors.New("call node: answer is no JSON"), err)
	}
	return nil
}
