package proxmox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeNode is a transport with one task in it. It needs no network, so that it works in a
// synctest bubble.
type fakeNode struct {
	mu      sync.Mutex
	started time.Time
	runs    time.Duration
	exit    string
	log     []string
	// broken answers are given to that many polls, after the first.
	broken func(n int) (*http.Response, error)
	polls  int
	// logins answers /access/ticket.
	logins []url.Values
}

func (f *fakeNode) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	switch {
	case strings.HasSuffix(r.URL.Path, ticketPath):
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		f.logins = append(f.logins, form)
		return ok(map[string]any{"ticket": fmt.Sprintf("PVE:ticket%d", len(f.logins)), "CSRFPreventionToken": "c"}), nil
	case strings.HasSuffix(r.URL.Path, "/status"):
		f.polls++
		if f.broken != nil && f.polls > 1 {
			if resp, err := f.broken(f.polls - 1); resp != nil || err != nil {
				return resp, err
			}
		}
		if time.Since(f.started) < f.runs {
			return ok(map[string]any{"status": "running", "pid": 1}), nil
		}
		return ok(map[string]any{"status": "stopped", "exitstatus": f.exit}), nil
	case strings.HasSuffix(r.URL.Path, "/log"):
		var start, limit int
		_, _ = fmt.Sscan(r.URL.Query().Get("start"), &start)
		_, _ = fmt.Sscan(r.URL.Query().Get("limit"), &limit)
		var rows []map[string]any
		for i := start; i < len(f.log) && len(rows) < limit; i++ {
			rows = append(rows, map[string]any{"n": i + 1, "t": f.log[i]})
		}
		body, _ := json.Marshal(map[string]any{"data": rows, "total": len(f.log)})
		return response(200, "OK", body), nil
	}
	return ok(someUPID), nil
}

func ok(data any) *http.Response {
	body, _ := json.Marshal(map[string]any{"data": data})
	return response(200, "OK", body)
}

func response(status int, reason string, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, reason), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}

func bubbleClient(t *testing.T, f *fakeNode) *Client {
	f.started = time.Now()
	return newClient(t, Config{Endpoints: []string{"https://pve:8006"}, TokenID: "a@pve!t", TokenSecret: "s", Transport: f})
}

func mustUPID(t *testing.T) UPID {
	u, err := ParseUPID(someUPID)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestWaitTaskOutcomes(t *testing.T) {
	long := make([]string, 500)
	for i := range long {
		long[i] = fmt.Sprint("line ", i, strings.Repeat(" x", 1000))
	}
	long[499] = "TASK ERROR: unable to create CT 200 - volume 'local:vztmpl/nope.tar.zst' does not exist"
	for _, tc := range []struct {
		exit       string
		good, lost bool
		warnings   int
	}{
		{exit: "OK", good: true},
		{exit: "WARNINGS: 3", good: true, warnings: 3},
		{exit: "WARNINGS: many"},
		{exit: "OK then"},
		{exit: "unable to create CT 200 - volume 'local:vztmpl/nope.tar.zst' does not exist"},
		{exit: "unexpected status", lost: true},
		{exit: "unable to get last line from task log - no such file", lost: true},
		{exit: "", lost: true},
	} {
		t.Run(tc.exit, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeNode{runs: 5 * time.Second, exit: tc.exit, log: long}
				s, err := bubbleClient(t, f).WaitTask(t.Context(), "pve", mustUPID(t))
				var failed *TaskError
				var lost *TaskLostError
				if (err == nil) != tc.good || errors.As(err, &lost) != tc.lost || errors.As(err, &failed) != (!tc.good && !tc.lost) {
					t.Fatalf("got %v", err)
				}
				if IsUnknownOutcome(err) != tc.lost {
					t.Errorf("IsUnknownOutcome is wrong for %v", err)
				}
				if tc.good && (s.Warnings() != tc.warnings || s.UPID != mustUPID(t)) {
					t.Errorf("status %+v", s)
				}
				if failed != nil {
					if len(failed.Log) != taskErrorLines || failed.Log[taskErrorLines-1] != long[499] {
						t.Errorf("the log's end is not there: %q", failed.Log)
					}
					for _, l := range failed.Log {
						if len(l) > taskErrorLine {
							t.Errorf("line of %d bytes", len(l))
						}
					}
				}
				if took := time.Since(f.started); took < 5*time.Second || took > 6*time.Second {
					t.Errorf("noticed after %v", took)
				}
				if f.polls > 12 {
					t.Errorf("%d polls for a task of 5 s", f.polls)
				}
			})
		})
	}
}

func TestWaitTaskIsQuickForShortTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNode{runs: 80 * time.Millisecond, exit: "OK"}
		if _, err := bubbleClient(t, f).WaitTask(t.Context(), "pve", mustUPID(t)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(f.started); took > 100*time.Millisecond {
			t.Errorf("noticed after %v", took)
		}
	})
}

func TestWaitTaskEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNode{runs: time.Hour, exit: "OK"}
		c := bubbleClient(t, f)
		ctx, cancel := context.WithTimeout(t.Context(), 1234*time.Millisecond)
		defer cancel()
		_, err := c.WaitTask(ctx, "pve", mustUPID(t))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(f.started); took != 1234*time.Millisecond {
			t.Errorf("returned after %v", took)
		}
	})
}

func TestWaitTaskSurvivesAnAbsentServer(t *testing.T) {
	away := func(n int) (*http.Response, error) { return nil, &dialError{errors.New("connection refused")} }
	hop := func(n int) (*http.Response, error) { return response(596, "Connection timed out", nil), nil }
	for _, tc := range []struct {
		name   string
		broken func(n int) (*http.Response, error)
		good   bool
		polls  int
	}{
		{"away for ten polls", func(n int) (*http.Response, error) {
			if n <= 10 {
				return away(n)
			}
			return nil, nil
		}, true, 0},
		{"away for good", away, false, pollFailures + 1},
		{"596 now and then", func(n int) (*http.Response, error) {
			if n%2 == 0 {
				return hop(n)
			}
			return nil, nil
		}, true, 0},
		{"forbidden", func(int) (*http.Response, error) {
			return response(403, "Permission check failed", nil), nil
		}, false, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeNode{runs: 20 * time.Second, exit: "OK", broken: tc.broken}
				_, err := bubbleClient(t, f).WaitTask(t.Context(), "pve", mustUPID(t))
				if (err == nil) != tc.good {
					t.Errorf("got %v", err)
				}
				if tc.polls != 0 && f.polls != tc.polls {
					t.Errorf("%d polls, want %d", f.polls, tc.polls)
				}
			})
		})
	}
}

func TestUnknownTaskIsLost(t *testing.T) {
	s := newServer(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		// GET /nodes/pve/tasks/{upid}/status of an unknown task, as recorded.
		refuse(w, 400, "Parameter verification failed.", map[string]string{"upid": "no such task"})
	})
	_, err := newClient(t, s.config()).WaitTask(t.Context(), "pve", mustUPID(t))
	var lost *TaskLostError
	if !errors.As(err, &lost) || !IsUnknownOutcome(err) || len(s.requests()) != 1 {
		t.Errorf("got %v after %d requests", err, len(s.requests()))
	}
}

func TestTicketIsRenewedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNode{}
		c := newClient(t, Config{Endpoints: []string{"https://pve:8006"}, Username: "root@pam", Password: "secret", Transport: f})
		ask := func() {
			t.Helper()
			if _, err := c.StartLXC(t.Context(), "pve", 200); err != nil {
				t.Fatal(err)
			}
		}
		ask()
		time.Sleep(59 * time.Minute)
		ask()
		if len(f.logins) != 1 || f.logins[0].Get("password") != "secret" {
			t.Fatalf("logins: %v", f.logins)
		}
		time.Sleep(2 * time.Minute)
		ask()
		if len(f.logins) != 2 || f.logins[1].Get("password") != "PVE:ticket1" {
			t.Fatalf("a ticket is renewed with itself: %v", f.logins)
		}
		time.Sleep(3 * time.Hour)
		ask()
		if len(f.logins) != 3 || f.logins[2].Get("password") != "secret" {
			t.Fatalf("an expired ticket is not: %v", f.logins)
		}
	})
}
