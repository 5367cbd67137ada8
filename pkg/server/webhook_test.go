package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/proximity-pve/proximity/pkg/seal"
)

// hooks takes what is signed with good.
type hooks struct{ namespace, name, body string }

func (h *hooks) Deliver(_ context.Context, namespace, name string, header http.Header, body io.Reader) (bool, error) {
	if name == "broken" {
		return false, errors.New("the disk is on fire")
	}
	all, err := io.ReadAll(body)
	if err != nil {
		return false, err
	}
	h.namespace, h.name, h.body = namespace, name, string(all)
	return header.Get("X-Signature-256") == "good", nil
}

// TestWebhookRoute: it needs no credential, takes a bounded body as it came, and tells who is
// refused nothing.
func TestWebhookRoute(t *testing.T) {
	h := &hooks{}
	f := start(t, options{config: func(_ *fixture, _ *seal.Keyring, cfg *Config) { cfg.Webhooks = h }})
	for _, c := range []struct {
		method, query, signature, body string
		want                           int
	}{
		{"POST", "?repository=default/main", "good", `{"a":1}`, 202},
		{"POST", "?repository=default/main", "bad", `{"a":1}`, 403},
		{"POST", "?repository=default/nowhere", "", `{"a":1}`, 403},
		{"POST", "?repository=default/broken", "good", `{"a":1}`, 500},
		{"POST", "", "good", `{"a":1}`, 400},
		{"POST", "?repository=main", "good", `{"a":1}`, 400},
		{"POST", "?repository=../main", "good", `{"a":1}`, 400},
		{"POST", "?repository=default/main", "good", strings.Repeat("x", maxWebhookBytes+1), 413},
	} {
		resp := f.open(context.Background(), c.method, WebhookPath+c.query, c.body, "X-Signature-256: "+c.signature, "Content-Type: application/x-www-form-urlencoded")
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %s %q: %d, want %d", c.method, c.query, c.signature, resp.StatusCode, c.want)
		}
		if c.want == 202 && (h.namespace != "default" || h.name != "main" || h.body != c.body) {
			t.Errorf("delivered %+v", h)
		}
	}
}

// TestWebhookBodyOfUnknownLength: the bound holds also for a body that does not say how long it is,
// and one that breaks off is no call.
func TestWebhookBodyOfUnknownLength(t *testing.T) {
	s := &rest{webhooks: discarding{}}
	for name, c := range map[string]struct {
		body io.Reader
		want string
	}{
		"short":      {io.LimitReader(endless{}, 1000), ""},
		"long":       {io.LimitReader(endless{}, maxWebhookBytes), ""},
		"too long":   {endless{}, "at most"},
		"broken off": {io.MultiReader(io.LimitReader(endless{}, 1000), iotest.ErrReader(io.ErrUnexpectedEOF)), "to its end"},
	} {
		req := httptest.NewRequest(http.MethodPost, WebhookPath+"?repository=default/main", c.body)
		req.ContentLength = -1
		err := s.webhook(httptest.NewRecorder(), req, call{})
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// discarding takes every call that it can read.
type discarding struct{}

func (discarding) Deliver(_ context.Context, _, _ string, _ http.Header, body io.Reader) (bool, error) {
	_, err := io.Copy(io.Discard, body)
	return err == nil, err
}

// endless is a reader without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
