package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/secretref"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

const secret = "a secret of enough bytes"

func newReceiver(t *testing.T, provider, value string) *Receiver {
	t.Helper()
	reg := kinds.Registry()
	st := memory.New(reg)
	t.Cleanup(func() { _ = st.Close() })
	keys, err := seal.EnsureKeys(filepath.Join(t.TempDir(), "key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := apply.New(st, reg).WithKeys(keys)
	ctx := context.Background()
	if err := a.EnsureNamespaces(ctx); err != nil {
		t.Fatal(err)
	}
	ref := &v1alpha1.SecretKeyRef{Name: proto.String("hook"), Key: proto.String("secret")}
	for _, obj := range []resource.Object{
		&v1alpha1.Secret{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Secret"), Metadata: &v1alpha1.ObjectMeta{Name: "hook"}, Spec: &v1alpha1.SecretSpec{StringData: map[string]string{"secret": value}}},
		&v1alpha1.GitRepository{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("GitRepository"), Metadata: &v1alpha1.ObjectMeta{Name: "main"},
			Spec: &v1alpha1.GitRepositorySpec{Url: proto.String("https://example.org/x"), Webhook: &v1alpha1.GitWebhook{Provider: &provider, SecretRef: ref}}},
		&v1alpha1.GitRepository{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("GitRepository"), Metadata: &v1alpha1.ObjectMeta{Name: "bare"},
			Spec: &v1alpha1.GitRepositorySpec{Url: proto.String("https://example.org/x")}},
	} {
		if _, err := a.Create(ctx, obj); err != nil {
			t.Fatal(err)
		}
	}
	return New(runtime.NewClient(st), secretref.New(keys))
}

func sign(key, body string) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(body))
	return hex.EncodeToString(m.Sum(nil))
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func (r *Receiver) poked() bool {
	select {
	case <-r.Pokes():
		return true
	default:
		return false
	}
}

func TestProviders(t *testing.T) {
	const body = `{"ref":"refs/heads/main"}`
	good := map[string]http.Header{
		"github":  header("X-Hub-Signature-256", "sha256="+sign(secret, body), "X-GitHub-Delivery", "1"),
		"gitea":   header("X-Gitea-Signature", sign(secret, body), "X-Gitea-Delivery", "1"),
		"generic": header("X-Signature-256", "sha256="+sign(secret, body)),
		"gitlab":  header("X-Gitlab-Token", secret, "X-Gitlab-Event-UUID", "1"),
	}
	for provider, h := range good {
		t.Run(provider, func(t *testing.T) {
			r := newReceiver(t, provider, secret+"\n") // as an editor leaves it
			ok, err := r.Deliver(t.Context(), "default", "main", h, strings.NewReader(body))
			if err != nil || !ok || !r.poked() {
				t.Fatalf("a good call: %v, %v", ok, err)
			}
			for name, c := range map[string]struct {
				repo string
				h    http.Header
				body string
			}{
				"nothing":            {"main", header(), body},
				"another key":        {"main", header("X-Hub-Signature-256", "sha256="+sign("x", body), "X-Gitea-Signature", sign("x", body), "X-Signature-256", "sha256="+sign("x", body), "X-Gitlab-Token", "x"), body},
				"no prefix":          {"main", header("X-Hub-Signature-256", sign(secret, body), "X-Signature-256", sign(secret, body)), body},
				"empty":              {"main", header("X-Hub-Signature-256", "sha256=", "X-Gitea-Signature", "", "X-Gitlab-Token", ""), body},
				"another repository": {"other", h, body},
				"without a webhook":  {"bare", h, body},
				"key of none":        {"bare", header("X-Hub-Signature-256", "sha256="+sign(string(make([]byte, 32)), body)), body},
			} {
				if ok, err := r.Deliver(t.Context(), "default", c.repo, c.h, strings.NewReader(c.body)); ok || err != nil || r.poked() {
					t.Errorf("%s: %v, %v", name, ok, err)
				}
			}
			if provider == "gitlab" {
				return // GitLab signs no body
			}
			if ok, _ := r.Deliver(t.Context(), "default", "main", h, strings.NewReader(body+" ")); ok {
				t.Error("a changed body was taken")
			}
		})
	}
}

// TestBodiesAreNotKept: a call of the size that GitHub sends at most takes little memory, and one
// that ends in the middle counts for nothing.
func TestBodiesAreNotKept(t *testing.T) {
	r := newReceiver(t, "generic", secret)
	body := strings.Repeat("x", 25_000_000)
	h := header("X-Signature-256", "sha256="+sign(secret, body))
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	ok, err := r.Deliver(t.Context(), "default", "main", h, struct{ io.Reader }{strings.NewReader(body)}) // as of a connection
	goruntime.ReadMemStats(&after)
	if !ok || err != nil || !r.poked() {
		t.Errorf("a large call: %v, %v", ok, err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("it took %d bytes of memory", used)
	}
	if ok, err := r.Deliver(t.Context(), "default", "main", h, iotest.TimeoutReader(struct{ io.Reader }{strings.NewReader(body)})); ok || !errors.Is(err, iotest.ErrTimeout) || r.poked() {
		t.Errorf("half a call: %v, %v", ok, err)
	}
}

func TestShortSecretsCountForNothing(t *testing.T) {
	r := newReceiver(t, "generic", "short")
	if ok, _ := r.Deliver(t.Context(), "default", "main", header("X-Signature-256", "sha256="+sign("short", "x")), strings.NewReader("x")); ok {
		t.Error("a call was let in by a secret that can be guessed")
	}
}

// TestReplays: the same call again has no effect, a new one has, and many become few looks.
func TestReplays(t *testing.T) {
	r := newReceiver(t, "github", secret)
	synctest.Test(t, func(t *testing.T) {
		call := func(body, id string) bool {
			h := header("X-Hub-Signature-256", "sha256="+sign(secret, body), "X-GitHub-Delivery", id)
			ok, err := r.Deliver(context.Background(), "default", "main", h, strings.NewReader(body))
			if !ok || err != nil {
				t.Fatalf("%v, %v", ok, err)
			}
			synctest.Wait()
			return r.poked()
		}
		if !call("x", "1") {
			t.Fatal("the first call had no effect")
		}
		time.Sleep(time.Minute)
		if call("x", "1") {
			t.Error("a replay had an effect")
		}
		if !call("x", "2") {
			t.Error("another call with the same body had no effect")
		}
		looks := 0
		for i := range 50 {
			if call("x", "burst "+string(rune('A'+i))) {
				looks++
			}
		}
		time.Sleep(2 * pause)
		synctest.Wait()
		for r.poked() {
			looks++
		}
		if looks != 1 {
			t.Errorf("50 calls at once made %d looks, after the one before", looks)
		}
		time.Sleep(replayLife)
	})
}
