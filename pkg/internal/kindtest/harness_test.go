package kindtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/internal/kindtest"
	"github.com/proximity-pve/proximity/pkg/server/servertest"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// world is the whole server with the Gadget among its kinds.
type world struct {
	*testing.T
	st      *memory.Store
	client  *client.Client
	gadgets *client.Objects[*kindtest.Gadget]
	server  *servertest.Server
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, st: memory.New(kindtest.Registry())}
	var err error
	w.server, err = servertest.New(t.TempDir(), w.st, kindtest.Registry())
	w.check(err)
	w.check(w.server.Start())
	w.client, err = w.server.Client()
	w.check(err)
	w.gadgets = client.For[*kindtest.Gadget](w.client)
	t.Cleanup(func() {
		if err := errors.Join(w.client.Close(), w.server.Stop(), w.st.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// rest makes a request of the REST API and returns the answer's status and JSON.
func (w *world) rest(method, path, contentType, body string) (int, map[string]any) {
	w.Helper()
	c, base, token, err := w.server.HTTP()
	w.check(err)
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(w.Context(), method, base+path, strings.NewReader(body))
	w.check(err)
	req.Header.Set("Authorization", "Bearer "+token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.Do(req)
	w.check(err)
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	w.check(err)
	var out map[string]any
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&out); err != nil {
		w.Fatalf("%s %s: %s: %v in %s", method, path, resp.Status, err, data)
	}
	return resp.StatusCode, out
}

// at is the value at a path of keys in JSON; nil: there is none.
func at(v any, path ...string) any {
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func has(w *world, text, want string) {
	w.Helper()
	if !strings.Contains(text, want) {
		w.Errorf("%q is missing in:\n%s", want, text)
	}
}
