package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

func TestParsePath(t *testing.T) {
	tests := map[string]target{
		"apps":                                  {plural: "apps"},
		"bridges/lan":                           {plural: "bridges", name: "lan"},
		"bridges/lan/status":                    {plural: "bridges", name: "lan", subresource: "status"},
		"namespaces":                            {plural: "namespaces"},
		"namespaces/a":                          {plural: "namespaces", name: "a"},
		"namespaces/a/status":                   {plural: "namespaces", name: "a", subresource: "status"},
		"namespaces/a/apps":                     {namespace: "a", plural: "apps"},
		"namespaces/a/apps/b":                   {namespace: "a", plural: "apps", name: "b"},
		"namespaces/a/apps/b/status":            {namespace: "a", plural: "apps", name: "b", subresource: "status"},
		"namespaces/status":                     {plural: "namespaces", name: "status"},
		"namespaces/namespaces/apps/namespaces": {namespace: "namespaces", plural: "apps", name: "namespaces"},
	}
	for path, want := range tests {
		if got, ok := parsePath(apiRoot + "/" + path); !ok || got != want {
			t.Errorf("%s: %+v %t, want %+v", path, got, ok, want)
		}
	}
	for _, path := range []string{"", "/", "apps/", "/apps", "apps//b", "apps/..", "apps/.", "apps/a/b/c", "namespaces/a/apps/b/c/d", "apps/%2e",
		"apps/a b", "apps/A", "apps/a\x00", "apps/" + strings.Repeat("a", 254), "apps/ä", "apps/a;b", "apps/a\\b", "apps/-a"} {
		if got, ok := parsePath(apiRoot + "/" + path); ok {
			t.Errorf("%q is %+v", path, got)
		}
	}
}

func TestParsePathIsTheInverseOfPath(t *testing.T) {
	segment := rapid.StringMatching(`[a-z0-9][a-z0-9.-]{0,20}`)
	rapid.Check(t, func(t *rapid.T) {
		want := target{plural: segment.Draw(t, "plural")}
		if rapid.Bool().Draw(t, "in a namespace") {
			want.namespace = segment.Draw(t, "namespace")
		}
		if rapid.Bool().Draw(t, "has a name") {
			want.name = segment.Draw(t, "name")
			if rapid.Bool().Draw(t, "has a subresource") {
				want.subresource = segment.Draw(t, "subresource")
			}
		}
		if want.plural == "namespaces" || want.plural == "status" {
			return // paths have other meanings for these
		}
		if got, ok := parsePath(want.path()); !ok || got != want {
			t.Fatalf("%s is %+v, want %+v", want.path(), got, want)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, path := range []string{apiRoot, apiRoot + "/apps", apiRoot + "/namespaces/a/apps/b/status", apiRoot + "/a/../b", "/", "", apiRoot + "/%2e%2e"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, ok := parsePath(path)
		if !ok {
			return
		}
		if got.path() != path {
			t.Errorf("%q is %+v, which is the path %q", path, got, got.path())
		}
		for _, s := range []string{got.namespace, got.name, got.subresource, got.plural} {
			if strings.ContainsAny(s, "/\\%\x00 ") || strings.HasPrefix(s, ".") {
				t.Errorf("%q has the segment %q", path, s)
			}
		}
	})
}

func FuzzSelectors(f *testing.F) {
	for _, s := range []string{"a=b", "a in (b,c),!d", "a notin ()", "x>1", "((", "=", ",", "metadata.name=a", "metadata.name==a,metadata.namespace=b", "type!=Normal,regarding.name="} {
		f.Add(s, s)
	}
	event, _ := kinds.Registry().Get("Event")
	f.Fuzz(func(t *testing.T, label, field string) {
		sel, err := selectLabels(label)
		var refused *apistatus.Error
		if err != nil && !errors.As(err, &refused) {
			t.Errorf("label selector %q: %v is no refusal", label, err)
		}
		if sel != nil {
			sel.Matches(labels.Set{"a": "b"})
			again, err := selectLabels(sel.String())
			if err != nil || again == nil || again.String() != sel.String() {
				t.Errorf("label selector %q reads as %q, which does not read back: %v", label, sel, err)
			}
		}
		s := selection{namespace: "fixed"}
		if err := s.selectFields(event, field); err == nil && s.namespace != "fixed" {
			t.Errorf("field selector %q changed the namespace to %q", field, s.namespace)
		}
	})
}

func FuzzAcceptsGzip(f *testing.F) {
	f.Add("gzip;q=0.5, br")
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Accept-Encoding"] = []string{header}
		if acceptsGzip(r) && !strings.Contains(strings.ToLower(header), "gzip") {
			t.Errorf("%q accepts gzip", header)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	reg := kinds.Registry()
	st := memory.New(reg)
	defer st.Close()
	good := func() Config {
		return Config{
			Store: st, Applier: faultyApplier{}, Registry: reg, Auth: testAuth{}, Log: slog.New(slog.DiscardHandler),
			TLS: &tls.Config{Certificates: make([]tls.Certificate, 1)}, Metrics: prometheus.NewRegistry(), Ready: func() error { return nil },
		}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"Store":    func(c *Config) { c.Store = nil },
		"Applier":  func(c *Config) { c.Applier = nil },
		"Registry": func(c *Config) { c.Registry = nil },
		"Auth":     func(c *Config) { c.Auth = nil },
		"Log":      func(c *Config) { c.Log = nil },
		"Metrics":  func(c *Config) { c.Metrics = nil },
		"Ready":    func(c *Config) { c.Ready = nil },
		"TLS":      func(c *Config) { c.TLS = &tls.Config{} },
	} {
		cfg := good()
		spoil(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	shared := good()
	if _, err := New(shared); err != nil {
		t.Fatal(err)
	}
	if _, err := New(shared); err == nil {
		t.Error("two servers share one registry of metrics")
	}
}

// brokenListener fails at once.
type brokenListener struct{ net.Listener }

var errBroken = errors.New("broken listener")

func (brokenListener) Accept() (net.Conn, error) { return nil, errBroken }

func TestServeEndsWhenAListenerFails(t *testing.T) {
	for name, which := range map[string]int{"REST": 0, "gRPC": 1} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			web, rpc := loopback{}.listen(t)
			listeners := []net.Listener{web, rpc}
			listeners[which] = brokenListener{listeners[which]}
			if err := f.server.Serve(context.Background(), listeners[0], listeners[1]); !errors.Is(err, errBroken) {
				t.Errorf("Serve: %v", err)
			}
			for _, l := range []net.Listener{web, rpc} {
				if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("a listener is still open: %v", err)
				}
			}
		})
	}
}
