package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// exchangeTimeout ends a request that hangs.
const exchangeTimeout = 20 * time.Second

// caddy is a running reverse proxy.
type caddy struct {
	cmd     *exec.Cmd
	address string
	admin   http.Client
	loaded  float64 // ms from its start until the last host was served
}

// caddyBinary is the one that set-up made.
func caddyBinary() (string, error) {
	cache := os.Getenv("PROXIMITY_CACHE")
	if cache == "" {
		cache = "/var/cache/proximity"
	}
	path := filepath.Join(cache, "bin", "caddy")
	out, err := exec.Command(path, "list-modules").Output()
	if err != nil {
		return "", fmt.Errorf("%w; make setup builds it", err)
	}
	if !bytes.Contains(out, []byte("proximity_vhosts")) {
		return "", fmt.Errorf("%s was built before it had a table of Vhosts; make setup builds it again", path)
	}
	return path, nil
}

// startCaddy starts a proxy on a free port of loopback and waits until it serves a host.
func (b *bench) startCaddy(routes []any, apps map[string]any, last string) (*caddy, error) {
	binary, err := caddyBinary()
	if err != nil {
		return nil, err
	}
	dir, err := b.temp("caddy")
	if err != nil {
		return nil, err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &caddy{address: free.Addr().String()}
	if err := free.Close(); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "admin.sock")
	c.admin.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	all := map[string]any{"http": map[string]any{"servers": map[string]any{"s": map[string]any{
		"listen": []string{c.address}, "routes": routes, "automatic_https": map[string]any{"disable": true}, "protocols": []string{"h1"},
	}}}}
	for name, app := range apps {
		all[name] = app
	}
	config, err := json.Marshal(map[string]any{
		"admin":   map[string]any{"listen": "unix/" + socket, "origins": []string{"admin"}, "config": map[string]any{"persist": false}},
		"logging": map[string]any{"logs": map[string]any{"default": map[string]any{"level": "ERROR"}}},
		"apps":    all,
	})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	c.cmd = exec.Command(binary, "run", "--config", file)
	c.cmd.Env = []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
	start := time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	b.atEnd(func() error {
		c.admin.CloseIdleConnections()
		_ = c.cmd.Process.Kill() // it may have ended
		_ = c.cmd.Wait()
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	err = c.until(ctx, last)
	c.loaded = milliseconds(time.Since(start))
	return c, err
}

// until asks for a host without a pause until it is served.
func (c *caddy) until(ctx context.Context, host string) error {
	var conn net.Conn
	var r *bufio.Reader
	defer func() {
		if conn != nil {
			_ = conn.Close() // only asked
		}
	}()
	for {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("%s is not served: %w", host, err)
		}
		if conn == nil {
			var err error
			if conn, err = net.Dial("tcp", c.address); err != nil {
				conn = nil
				time.Sleep(time.Millisecond)
				continue
			}
			r = bufio.NewReader(conn)
		}
		status, closing, length, err := exchange(conn, r, host)
		if err == nil && status == http.StatusOK && length > 0 {
			return nil
		}
		if err != nil || closing {
			_ = conn.Close()
			conn = nil
		}
	}
}

// exchange sends a request and reads the answer: its status, whether the connection is to be
// closed, and how long its body is.
func exchange(conn net.Conn, r *bufio.Reader, host string) (status int, closing bool, length int64, err error) {
	if err := conn.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return 0, false, 0, err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return 0, false, 0, err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, false, 0, err
	}
	defer resp.Body.Close()
	length, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Close, length, err
}

// post adds a route by the admin API.
func (c *caddy) post(ctx context.Context, route any) error {
	body, err := json.Marshal(route)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin/config/apps/http/servers/s/routes", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.admin.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status + ": " + string(text))
	}
	return err
}

// residentMiB is the memory of a process.
func residentMiB(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	m := rssLine.FindSubmatch(data)
	if m == nil {
		return 0, errors.New("/proc has no VmRSS of the process")
	}
	kib, err := strconv.ParseFloat(string(m[1]), 64)
	return kib / 1024, err
}
