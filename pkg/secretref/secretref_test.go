package secretref_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/internal/kindtest"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/secretref"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

type fixture struct {
	*testing.T
	*apply.Applier
	client runtime.Client
	keys   *seal.Keyring
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	reg, err := kinds.New(resource.Definition{Message: &kindtest.Vault{}})
	if err != nil {
		t.Fatal(err)
	}
	st := memory.New(reg)
	t.Cleanup(func() { _ = st.Close() })
	f := &fixture{T: t, keys: seal.NewEphemeral(), client: runtime.NewClient(st)}
	f.Applier = apply.New(st, reg).WithKeys(f.keys)
	if err := f.EnsureNamespaces(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) secret(namespace, name string, text, data map[string]string) {
	f.Helper()
	_, err := f.Create(f.Context(), &v1alpha1.Secret{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Secret"),
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: namespace}, Spec: &v1alpha1.SecretSpec{StringData: text, Data: data}})
	if err != nil {
		f.Fatal(err)
	}
}

func ref(namespace, name, key string) *v1alpha1.SecretKeyRef {
	r := &v1alpha1.SecretKeyRef{Name: proto.String(name), Key: proto.String(key)}
	if namespace != "" {
		r.Namespace = proto.String(namespace)
	}
	return r
}

func vaultIn(namespace, name string, r *v1alpha1.SecretKeyRef) *kindtest.Vault {
	return &kindtest.Vault{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Vault"),
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: namespace}, Spec: &kindtest.VaultSpec{TokenRef: r}}
}

func clusterObject() *v1alpha1.Cluster {
	return &v1alpha1.Cluster{Kind: proto.String("Cluster"), Metadata: &v1alpha1.ObjectMeta{Name: "c"}}
}

func TestResolve(t *testing.T) {
	f := newFixture(t)
	f.secret("default", "s", map[string]string{"k": "text", `a.b`: ""}, map[string]string{"raw": "AP8="})
	f.secret(resource.SystemNamespace, "s", map[string]string{"k": "system"}, nil)
	r := secretref.New(f.keys)
	for name, c := range map[string]struct {
		owner  resource.Object
		ref    *v1alpha1.SecretKeyRef
		want   string
		reason string
	}{
		"text":                       {vaultIn("default", "v", nil), ref("", "s", "k"), "text", ""},
		"an empty text":              {vaultIn("default", "v", nil), ref("", "s", "a.b"), "", ""},
		"bytes":                      {vaultIn("default", "v", nil), ref("", "s", "raw"), "\x00\xff", ""},
		"its own namespace by name":  {vaultIn("default", "v", nil), ref("default", "s", "k"), "text", ""},
		"cluster-scoped":             {clusterObject(), ref("", "s", "k"), "system", ""},
		"cluster-scoped, elsewhere":  {clusterObject(), ref("default", "s", "k"), "text", ""},
		"no Secret":                  {vaultIn("default", "v", nil), ref("", "t", "k"), "", secretref.ReasonNotFound},
		"no key":                     {vaultIn("default", "v", nil), ref("", "s", "x"), "", secretref.ReasonKeyNotFound},
		"another namespace":          {vaultIn("default", "v", nil), ref(resource.SystemNamespace, "s", "k"), "", secretref.ReasonNotAllowed},
		"a namespace without Secret": {clusterObject(), ref("nowhere", "s", "k"), "", secretref.ReasonNotFound},
	} {
		got, err := r.Resolve(t.Context(), f.client, c.owner, c.ref)
		var waiting *runtime.WaitingError
		switch {
		case c.reason == "" && (err != nil || string(got.Bytes()) != c.want || got.Version() == ""):
			t.Errorf("%s: got %q, %v", name, got.Bytes(), err)
		case c.reason != "" && (!errors.As(err, &waiting) || waiting.Reason != c.reason):
			t.Errorf("%s: got %v, want waiting for %s", name, err, c.reason)
		}
	}
	for name, other := range map[string]*secretref.Resolver{"another key": secretref.New(seal.NewEphemeral()), "no key": nil} {
		var waiting *runtime.WaitingError
		if _, err := other.Resolve(t.Context(), f.client, vaultIn("default", "v", nil), ref("", "s", "k")); !errors.As(err, &waiting) || waiting.Reason != secretref.ReasonUnreadable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValuesHideThemselves(t *testing.T) {
	f := newFixture(t)
	f.secret("default", "s", map[string]string{"k": "CANARY"}, nil)
	v, err := secretref.New(f.keys).Resolve(t.Context(), f.client, vaultIn("default", "v", nil), ref("", "s", "k"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]any{"v": v})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(v), fmt.Sprintf("%s %v %+v %#v %q", v, v, v, v, v), fmt.Sprintf("%v", struct{ V secretref.Value }{v}), fmt.Sprintf("%+v", struct{ v secretref.Value }{v}), string(data), v.LogValue().String()} {
		if text == "" || containsCanary(text) {
			t.Errorf("a value shows itself: %s", text)
		}
	}
}

func containsCanary(s string) bool {
	return strings.Contains(s, "CANARY") || strings.Contains(s, strings.Trim(fmt.Sprint([]byte("CANARY")), "[]"))
}

func TestWatchWakesWhatRefersToASecret(t *testing.T) {
	f := newFixture(t)
	f.secret("default", "s", map[string]string{"k": "v"}, nil)
	for _, v := range []*kindtest.Vault{
		vaultIn("default", "uses", ref("", "s", "k")), vaultIn("default", "other", ref("", "t", "k")),
		vaultIn(resource.SystemNamespace, "elsewhere", ref("", "s", "k")), vaultIn("default", "none", nil),
	} {
		if _, err := f.Create(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	secret, err := f.client.Get(context.Background(), resource.Key{Kind: "Secret", Namespace: "default", Name: "s"})
	if err != nil {
		t.Fatal(err)
	}
	w := secretref.Watch("Vault")
	if w.Kind != "Secret" {
		t.Errorf("it watches %s", w.Kind)
	}
	if got := w.Map(t.Context(), f.client, secret); fmt.Sprint(got) != "[Vault default/uses]" {
		t.Errorf("it wakes %v", got)
	}
}
