package controllers_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

const secretValue = `it's a "CANARY" $HOME`

func (w *world) putSecret(key, value string) {
	w.Helper()
	docs, err := resource.DecodeDocuments(w.registry, "secret.yaml", []byte(
		"apiVersion: proximity/v1alpha1\nkind: Secret\nmetadata: {name: db}\nspec: {stringData: {"+key+": '"+strings.ReplaceAll(value, "'", "''")+"'}}\n"))
	w.must(err)
	_, err = w.applier.ApplySet(w.Context(), docs, apply.Options{Manager: "story"})
	w.must(err)
}

// An App's variable comes from a Secret: the App waits for it, is woken when it comes, takes a
// new value over, and nobody but the guest sees it.
func TestEnvironmentFromSecret(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		a := resource.Clone(w.app("nginx-01"))
		a.Spec.Env = append(a.Spec.Env,
			&v1alpha1.EnvVar{Name: proto.String("PLAIN"), Value: proto.String("seen")},
			&v1alpha1.EnvVar{Name: proto.String("PASSWORD"), ValueFrom: &v1alpha1.EnvVarSource{
				SecretKeyRef: &v1alpha1.SecretKeyRef{Name: proto.String("db"), Key: proto.String("password")}}})
		a.Spec.Commands = []*v1alpha1.AppCommand{{Argv: []string{"cp", "/etc/environment", "/root/copied"}}}
		_, err := w.applier.Update(w.Context(), a)
		w.must(err)
		w.until("it waits", w.has(appKey, "Provisioned", "False", "SecretNotFound"))
		w.putSecret("other", "x")
		w.until("it waits for the key", w.has(appKey, "Provisioned", "False", "SecretKeyNotFound"))
		began := time.Now()
		w.putSecret("password", secretValue)
		w.until("ready", w.ready(appKey))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it was ready %s after the Secret came: nothing has woken it", took)
		}
		file, err := w.guest(firstVMID).FS().ReadFile("/etc/environment")
		if want := "PASSWORD=\"it's a \\\"CANARY\\\" $HOME\"\n"; err != nil || !strings.HasSuffix(string(file), want) {
			t.Errorf("/etc/environment: %q, %v", file, err)
		}
		if copied, err := w.guest(firstVMID).FS().ReadFile("/root/copied"); err != nil || !bytes.Equal(copied, file) {
			t.Errorf("the command did not run after the files: %q, %v", copied, err)
		}
		w.putSecret("password", "CANARY-2")
		w.until("the new value", func() bool {
			file, _ := w.guest(firstVMID).FS().ReadFile("/etc/environment")
			return strings.Contains(string(file), `PASSWORD="CANARY-2"`)
		})
		w.until("ready again", w.ready(appKey))
		w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: second}\nspec: {resources: {disk: 1Gi}}\n")
		w.until("a neighbour", w.ready(appKeyOf("second")))
		w.unseen("CANARY")
		if in := w.guestsWith("CANARY"); len(in) != 2 || in[0] != "20000 /etc/environment" || in[1] != "20000 /root/copied" {
			t.Errorf("the value is in %v", in)
		}
	})
}

// guestsWith tells in which files of which guests a text is, sorted.
func (w *world) guestsWith(text string) (found []string) {
	w.Helper()
	guests := w.engine.Guests()
	if len(guests) < 3 {
		w.Fatalf("there are %d guests", len(guests))
	}
	for _, g := range guests {
		fsys, looked := g.FS(), 0
		var walk func(dir string)
		walk = func(dir string) {
			entries, err := fsys.ReadDir(dir)
			w.must(err)
			for _, e := range entries {
				switch {
				case e.IsDir():
					walk(e.Path)
				case e.Mode.IsRegular():
					looked++
					data, err := fsys.ReadFile(e.Path)
					w.must(err)
					if bytes.Contains(data, []byte(text)) {
						found = append(found, fmt.Sprintf("%d %s", g.VMID(), e.Path))
					}
				}
			}
		}
		walk("/")
		if looked == 0 {
			w.Errorf("guest %d has no files", g.VMID())
		}
	}
	slices.Sort(found)
	return found
}

// unseen looks for a text in all objects, in what was run on the node and asked of it.
func (w *world) unseen(text string) {
	w.Helper()
	for _, kind := range w.registry.Kinds() {
		snap, err := w.store.List(context.Background(), kind.Name, store.ListOptions{})
		w.must(err)
		for _, o := range snap.Items {
			if data, _ := resource.EncodeJSON(o); bytes.Contains(data, []byte(text)) {
				w.Errorf("%s has %q", resource.KeyOf(o), text)
			}
		}
	}
	for _, c := range w.ledger.all() {
		if strings.Contains(c.what, text) {
			w.Errorf("a call has %q: %.200s", text, c.what)
		}
	}
	for what := range w.node.Stats().Commands {
		if strings.Contains(what, text) {
			w.Errorf("a command line has %q: %.200s", text, what)
		}
	}
}
