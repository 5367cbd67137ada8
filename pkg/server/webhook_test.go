package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/seal"
)

// hooks takes what is signed with good.
type hooks struct{ namespace, name, body string }

func (h *hooks) Deliver(_ context.Context, namespace, name string, header http.Header, body []byte) (bool, error) {
	if name == "broken" {
		return false, errors.New("the disk is on fire")
	}
	h.namespace, h.name, h.body = namespace, name, string(body)
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
