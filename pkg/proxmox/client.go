package proxmox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Client speaks to one Proxmox VE cluster. It is safe for concurrent use. See the
// package's contract.
type Client struct {
	endpoints []*url.URL
	// preferred is the index of the endpoint that answered last.
	preferred atomic.Int32
	http      *http.Client
	// streams dials consoles, whose connections live long and must not take the places of
	// requests.
	streams *http.Client
	// traced: the transport reports when a request got its connection.
	traced bool
	auth   authenticator
	gate   *gate
	// storages bounds tasks that allocate.
	storages *storageGate
	known    capabilityCache
	timeout  time.Duration
	agent    string
	log      *slog.Logger
	observe  func(method, path string, status int, took time.Duration)
	stats    counters
}

// New makes a client. It contacts nobody.
func New(cfg Config) (*Client, error) {
	endpoints, err := cfg.endpoints()
	if err != nil {
		return nil, err
	}
	auth, err := cfg.authenticator()
	if err != nil {
		return nil, err
	}
	most, err := cfg.bounds()
	if err != nil {
		return nil, err
	}
	c := &Client{
		endpoints: endpoints, auth: auth, gate: newGate(most), storages: newStorageGate(most.storageTasks),
		timeout: cfg.RequestTimeout, agent: cfg.UserAgent, log: cfg.Log, observe: cfg.Observe,
	}
	if c.timeout <= 0 {
		c.timeout = DefaultRequestTimeout
	}
	if c.agent == "" {
		c.agent = "proximity"
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	transport, streams := cfg.Transport, cfg.Transport
	if transport == nil {
		own, err := newTransport(cfg, most.calls)
		if err != nil {
			return nil, err
		}
		long := own.Clone()
		long.MaxConnsPerHost, long.DisableKeepAlives = 0, true
		transport, streams, c.traced = own, long, true
	}
	c.http, c.streams = httpClient(transport), httpClient(streams)
	return c, nil
}

// httpClient follows no redirect: one from an API endpoint is a misconfiguration, and would
// carry the credentials elsewhere. It is reported as the status it is.
func httpClient(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close drops idle connections. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// envelope is what surrounds every JSON answer.
type envelope struct {
	Data    json.RawMessage `json:"data"`
	Message Text            `json:"message"`
	Errors  map[string]Text `json:"errors"`
	// Total comes with task lists and logs, Changes with the network list.
	Total   Int  `json:"total"`
	Changes Text `json:"changes"`
}

// fetch makes the call and decodes its data as T.
func fetch[T any](ctx context.Context, c *Client, r request) (T, error) {
	var out T
	_, err := c.call(ctx, r, &out)
	return out, err
}

// launch makes a call that starts a task. An answer without a task is a broken one: the
// server may have acted on the request.
func launch(ctx context.Context, c *Client, r request) (UPID, error) {
	began, err := c.storages.enter(ctx, c, r)
	if err != nil {
		return UPID{}, &TransportError{Method: r.method, Path: r.text, Err: err}
	}
	upid, err := fetch[UPID](ctx, c, r)
	began(upid)
	if err == nil && upid.IsZero() {
		err = &TransportError{Method: r.method, Path: r.text, Sent: true, Err: errors.New("the answer names no task")}
	}
	return upid, err
}

// call makes the request and decodes its data into out, which may be nil.
func (c *Client) call(ctx context.Context, r request, out any) (envelope, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	leave, err := c.gate.enter(ctx, r.node, r.write())
	if err != nil {
		return envelope{}, &TransportError{Method: r.method, Path: r.text, Err: err}
	}
	defer leave()
	return c.attempts(ctx, r, out)
}

// attempts sends the request to one endpoint after the other until one can be reached.
// It moves on only when the request surely had no effect.
func (c *Client) attempts(ctx context.Context, r request, out any) (envelope, error) {
	first := int(c.preferred.Load())
	var err error
	for i := range c.endpoints {
		at := (first + i) % len(c.endpoints)
		var env envelope
		env, err = c.authorized(ctx, c.endpoints[at], r, out)
		if !elsewhere(err) || ctx.Err() != nil {
			if err == nil && i > 0 {
				c.preferred.Store(int32(at))
				c.log.Warn("using another Proxmox endpoint", "endpoint", c.endpoints[at].Host)
			}
			return env, err
		}
		if i+1 < len(c.endpoints) {
			c.stats.failovers.Add(1)
		}
	}
	return envelope{}, err
}

// elsewhere reports whether another endpoint may do better: this one could not be
// dialled, or could not reach the node. A wrong certificate is not among them: it must
// be seen.
func elsewhere(err error) bool {
	if e, ok := asAPI(err); ok {
		return e.HTTP == statusHopConnect
	}
	var d *dialError
	return errors.As(err, &d) && !errors.Is(err, ErrFingerprint)
}

// authorized sends the request with credentials. A 401 is raised before the server looks
// at what is asked, so one repetition with a fresh ticket is safe, also for a write.
func (c *Client) authorized(ctx context.Context, base *url.URL, r request, out any) (envelope, error) {
	for again := false; ; again = true {
		req, err := c.newHTTPRequest(ctx, base, r)
		if err != nil {
			return envelope{}, &TransportError{Method: r.method, Path: r.text, Err: err}
		}
		var renew func()
		if !r.anonymous {
			if renew, err = c.auth.authorize(ctx, c, req); err != nil {
				return envelope{}, err
			}
		}
		env, err := c.exchange(req, r, out)
		if renew == nil || again || !IsUnauthorized(err) {
			return env, err
		}
		renew()
	}
}

func (c *Client) newHTTPRequest(ctx context.Context, base *url.URL, r request) (*http.Request, error) {
	target := base.JoinPath("/api2/json").String() + r.path
	encoded := r.params.Encode()
	var body io.Reader
	if encoded != "" && (r.method == http.MethodGet || r.method == http.MethodDelete) {
		// The server refuses a body on these.
		target += "?" + encoded
	} else if encoded != "" {
		if len(encoded) > maxRequestBody {
			return nil, fmt.Errorf("request body of %d bytes is above the server's %d", len(encoded), maxRequestBody)
		}
		body = strings.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, err
	}
	// Without GetBody net/http cannot send a body a second time by itself.
	req.GetBody = nil
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.agent)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, nil
}

// exchange sends one HTTP request and reads its answer.
func (c *Client) exchange(req *http.Request, r request, out any) (envelope, error) {
	// Once the transport has a connection, bytes may be on their way.
	var sent atomic.Bool
	sent.Store(!c.traced)
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
	}))
	begin := time.Now()
	status, env, err := c.roundTrip(req, r, out)
	took := time.Since(begin)
	c.stats.count(r, err)
	if c.observe != nil {
		c.observe(r.method, r.template, status, took)
	}
	if _, ok := asAPI(err); ok || err == nil {
		return env, err
	}
	var d *dialError
	unsent := !sent.Load() || errors.As(err, &d)
	err = withoutURL(err)
	if over := req.Context().Err(); over != nil && !errors.Is(err, over) {
		// A cancelled exchange may show itself as an answer cut short.
		err = fmt.Errorf("%w: %w", over, err)
	}
	return envelope{}, &TransportError{Method: r.method, Path: r.text, Sent: !unsent, Err: err}
}

func (c *Client) roundTrip(req *http.Request, r request, out any) (int, envelope, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, envelope{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, envelope{}, readError(resp, r)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return resp.StatusCode, envelope{}, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxBody {
		return resp.StatusCode, envelope{}, ErrTooLarge
	}
	env, err := decode(body, out)
	return resp.StatusCode, env, err
}

func decode(body []byte, out any) (envelope, error) {
	var env envelope
	if err := json.Unmarshal(body, &env); err != nil {
		return envelope{}, fmt.Errorf("decode the answer: %w", err)
	}
	if env.Data == nil {
		return envelope{}, errors.New("decode the answer: it has no data")
	}
	if out == nil || bytes.Equal(env.Data, []byte("null")) {
		return env, nil
	}
	if err := json.Unmarshal(env.Data, out); err != nil {
		return envelope{}, fmt.Errorf("decode the answer's data: %w", err)
	}
	return env, nil
}

// readError makes an APIError of an answer that is not a success. Its body may be JSON,
// plain text or nothing; the reason phrase always says something.
func readError(resp *http.Response, r request) *APIError {
	_, reason, _ := strings.Cut(resp.Status, " ")
	e := &APIError{HTTP: resp.StatusCode, Reason: oneLine(reason), Method: r.method, Path: r.text}
	// An unreadable body takes nothing away from what the status says.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	var env envelope
	if json.Unmarshal(body, &env) != nil {
		return e
	}
	e.Message = strings.TrimRight(string(env.Message), "\n")
	if len(env.Errors) > 0 {
		e.Errors = make(map[string]string, len(env.Errors))
		for k, v := range env.Errors {
			e.Errors[k] = strings.TrimRight(string(v), "\n")
		}
	}
	return e
}

// withoutURL drops the wrapper that repeats method and URL, whose query may be long.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
