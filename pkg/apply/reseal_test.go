package apply_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/resource/sealed"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

var errCrash = errors.New("crash")

// dying is a store that dies at its nth transaction: it and all after it fail.
type dying struct {
	store.Store
	left int
}

func (d *dying) Update(ctx context.Context, fn func(store.Tx) error) (uint64, error) {
	if d.left--; d.left < 0 {
		return 0, errCrash
	}
	return d.Store.Update(ctx, fn)
}

// TestRekeyCrashes dies at every transaction of a change of keys, and starts again with the
// key file as it is then: every value opens, and finishing leaves the new key alone.
func TestRekeyCrashes(t *testing.T) {
	const secrets = 150
	reg := kinds.Registry()
	for crash := 0; ; crash++ {
		path := filepath.Join(t.TempDir(), "secrets.key")
		st := memory.New(reg)
		start := func(st store.Store) *apply.Applier {
			needed, err := apply.KeysInUse(reg, func(kind string) ([]resource.Object, error) {
				list, err := st.List(t.Context(), kind, store.ListOptions{})
				return list.Items, err
			})
			if err != nil {
				t.Fatal(err)
			}
			keys, err := seal.EnsureKeys(path, needed)
			if err != nil {
				t.Fatalf("after a crash at transaction %d the daemon does not start: %v", crash, err)
			}
			return apply.New(st, reg).WithKeys(keys).System()
		}
		a := start(st)
		if err := a.EnsureNamespaces(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range secrets {
			s := &v1alpha1.Secret{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Secret"), Metadata: &v1alpha1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("s", i)},
				Spec: &v1alpha1.SecretSpec{StringData: map[string]string{"a": fmt.Sprint("value ", i)}}}
			if _, err := a.Create(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		before, _ := os.ReadFile(path)
		_, err := start(&dying{st, crash}).Rekey(t.Context(), false)
		if err != nil && !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		again := start(st)
		check := func() {
			t.Helper()
			for i := range secrets {
				values, err := again.Reveal(t.Context(), resource.Key{Kind: "Secret", Namespace: "default", Name: fmt.Sprint("s", i)})
				if err != nil || values["spec.stringData[a]"] != fmt.Sprint("value ", i) {
					t.Fatalf("crash at transaction %d: %v, %v", crash, values, err)
				}
			}
		}
		check()
		if _, err := again.Rekey(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		again = start(st)
		check()
		after, _ := os.ReadFile(path)
		ids, _ := apply.KeysInUse(reg, func(kind string) ([]resource.Object, error) {
			list, err := st.List(t.Context(), kind, store.ListOptions{})
			return list.Items, err
		})
		if len(ids) != 1 || string(after) == string(before) {
			t.Fatalf("crash at transaction %d: keys in use %v", crash, ids)
		}
		_ = st.Close()
		if err == nil {
			if crash < 3 {
				t.Errorf("a change of keys is %d transactions: too few to be bounded", crash)
			}
			return
		}
	}
}

// TestRekeyAmongWriters: what others write meanwhile opens afterwards, too.
func TestRekeyAmongWriters(t *testing.T) {
	reg := kinds.Registry()
	st := memory.New(reg)
	defer st.Close()
	keys := seal.NewEphemeral()
	a := apply.New(st, reg).WithKeys(keys).System()
	if err := a.EnsureNamespaces(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				s := &v1alpha1.Secret{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Secret"), Metadata: &v1alpha1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("s", w, "-", i%20)},
					Spec: &v1alpha1.SecretSpec{StringData: map[string]string{"a": fmt.Sprint("value ", i)}}}
				if _, err := a.ApplySet(ctx, []resource.Document{{Object: s}}, apply.Options{Manager: "w", Force: true}); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		if _, err := a.Rekey(t.Context(), false); err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
	list, err := st.List(t.Context(), "Secret", store.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		t.Fatal(len(list.Items), err)
	}
	for _, o := range list.Items {
		if _, err := a.Reveal(t.Context(), resource.KeyOf(o)); err != nil {
			t.Error(err)
		}
	}
	kind, _ := reg.Get("Secret")
	for _, v := range kind.SensitiveValues(list.Items[0]) {
		if s, err := sealed.Parse(v.Text); err != nil || s.KeyID != keys.Active() {
			t.Errorf("%v, %v", s.KeyID, err)
		}
	}
}
