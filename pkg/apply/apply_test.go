package apply_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// fixture is an Applier over a store in memory, with the permanent namespaces.
type fixture struct {
	*testing.T
	*apply.Applier
	st  store.Store
	reg *resource.Registry
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	reg := kinds.Registry()
	st := memory.New(reg)
	t.Cleanup(func() { _ = st.Close() })
	f := &fixture{T: t, Applier: apply.New(st, reg), st: st, reg: reg}
	if err := f.EnsureNamespaces(context.Background()); err != nil {
		t.Fatal(err)
	}
	return f
}

// apply applies the documents of a text as if it were the file set.yaml.
func (f *fixture) apply(text string, dry ...bool) ([]apply.Result, error) {
	f.Helper()
	docs, err := resource.DecodeDocuments(f.reg, "set.yaml", []byte(text))
	if err != nil {
		return nil, err
	}
	return f.ApplySet(context.Background(), docs, apply.Options{Manager: "test", DryRun: len(dry) > 0})
}

func (f *fixture) mustApply(text string) []apply.Result {
	f.Helper()
	results, err := f.apply(text)
	if err != nil {
		f.Fatal(err)
	}
	return results
}

func (f *fixture) get(kind, namespace, name string) resource.Object {
	f.Helper()
	obj, err := f.st.Get(context.Background(), resource.Key{Kind: kind, Namespace: namespace, Name: name})
	if err != nil {
		f.Fatal(err)
	}
	return resource.Clone(obj)
}

func (f *fixture) absent(kind, namespace, name string) {
	f.Helper()
	if _, err := f.st.Get(context.Background(), resource.Key{Kind: kind, Namespace: namespace, Name: name}); !errors.Is(err, store.ErrNotFound) {
		f.Errorf("%s %s/%s: got %v, want not found", kind, namespace, name, err)
	}
}

func outcomes(results []apply.Result) string {
	var s []string
	for _, r := range results {
		s = append(s, r.Key.Short()+" "+r.Outcome)
	}
	return strings.Join(s, ", ")
}

// doc is a document from its kind, name and the lines below.
func doc(kind, name, body string) string {
	return "---\napiVersion: proximity/v1alpha1\nkind: " + kind + "\nmetadata:\n  name: " + name + "\n" + body
}

const (
	lanBridge = "spec:\n  subnet: 10.20.0.0/24\n"
	appliance = "spec:\n  bridgeRef: {name: lan}\n  lan: {address: 10.20.0.1}\n  dhcp: {start: 10.20.0.100, end: 10.20.0.250}\n  dns: {zone: prox.local}\n"
)

func TestApplyQuickstartTwice(t *testing.T) {
	f := newFixture(t)
	files, _ := filepath.Glob("../../manifests/quickstart/*.yaml")
	var text strings.Builder
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString("---\n" + string(data))
	}
	const all = "bridge/proximity-lan X, appliance/proximity X, app/nginx-01 X, vhost/nginx-01.prox.local X"
	if got, want := outcomes(f.mustApply(text.String())), strings.ReplaceAll(all, "X", "created"); got != want {
		t.Errorf("first: got %s, want %s", got, want)
	}
	before := f.st.Stats()
	if got, want := outcomes(f.mustApply(text.String())), strings.ReplaceAll(all, "X", "unchanged"); got != want {
		t.Errorf("second: got %s, want %s", got, want)
	}
	if after := f.st.Stats(); after.Revision != before.Revision || after.Changes != before.Changes {
		t.Errorf("the second run wrote: revision %d -> %d, changes %d -> %d", before.Revision, after.Revision, before.Changes, after.Changes)
	}
	a := f.get("Appliance", "", "proximity").(*v1alpha1.Appliance)
	if a.GetSpec().GetVmid() != 9999 || a.GetSpec().GetOs() != "debian" || !a.GetSpec().GetNat().GetEnabled() {
		t.Errorf("defaults are not stored: %v", a.GetSpec())
	}
}

func TestApplyOrderIsThatOfTheKinds(t *testing.T) {
	f := newFixture(t)
	results := f.mustApply(
		doc("App", "web", "  namespace: shop\nspec: {}\n") + doc("Appliance", "net", appliance) +
			doc("Bridge", "lan", lanBridge) + doc("Namespace", "shop", ""))
	if got, want := outcomes(results), "app/web created, appliance/net created, bridge/lan created, namespace/shop created"; got != want {
		t.Errorf("results in document order: got %s, want %s", got, want)
	}
	order := []resource.Object{f.get("Namespace", "", "shop"), f.get("Bridge", "", "lan"), f.get("Appliance", "", "net"), f.get("App", "shop", "web")}
	for i := 1; i < len(order); i++ {
		if a, b := order[i-1].GetMetadata().GetResourceVersion(), order[i].GetMetadata().GetResourceVersion(); len(a) > len(b) || len(a) == len(b) && a >= b {
			t.Errorf("%s (%s) was not written before %s (%s)", order[i-1].GetKind(), a, order[i].GetKind(), b)
		}
	}
}

func TestApplyRemovesWhatTheDocumentNoLongerHas(t *testing.T) {
	f := newFixture(t)
	f.mustApply(doc("Bridge", "lan", "  labels: {a: \"1\", b: \"1\"}\n  annotations: {note: x}\nspec:\n  subnet: 10.20.0.0/24\n  mtu: 1400\n  comment: hello\n"))
	live := f.get("Bridge", "", "lan").(*v1alpha1.Bridge)
	live.Metadata.Finalizers = []string{"proximity/bridge"}
	live.Status = &v1alpha1.BridgeStatus{Method: proto.String("API")}
	if _, err := f.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	live.Metadata.ResourceVersion = ""
	if _, err := f.UpdateStatus(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	results := f.mustApply(doc("Bridge", "lan", "  labels: {b: \"2\", c: \"3\"}\nspec:\n  subnet: 10.20.0.0/24\n  mtu: 1500\nstatus:\n  method: HostFile\n"))
	if got := outcomes(results); got != "bridge/lan configured" {
		t.Errorf("got %s", got)
	}
	b := f.get("Bridge", "", "lan").(*v1alpha1.Bridge)
	m := b.GetMetadata()
	if len(m.GetLabels()) != 2 || m.Labels["b"] != "2" || m.Labels["c"] != "3" || len(m.GetAnnotations()) != 0 {
		t.Errorf("metadata: %v", m)
	}
	if len(m.GetFinalizers()) != 1 {
		t.Errorf("finalizers were lost: %v", m.GetFinalizers())
	}
	if b.GetSpec().GetMtu() != 1500 || b.Spec.Comment != nil {
		t.Errorf("the comment was not removed: %v", b.GetSpec())
	}
	if b.GetStatus().GetMethod() != "API" {
		t.Errorf("the status of the document was not ignored: %v", b.GetStatus())
	}
	if m.GetGeneration() != 2 {
		t.Errorf("generation %d, want 2", m.GetGeneration())
	}
}

// TestSetRefused: every set is refused with exactly these errors, and nothing of it is applied.
func TestSetRefused(t *testing.T) {
	tests := []struct{ name, live, set, want string }{
		{"one bad document", "", doc("Bridge", "lan", lanBridge) + doc("Bridge", "bad", "spec:\n  subnet: 10.20.0.0\n"),
			`set.yaml:14: spec.subnet: found "10.20.0.0"; allowed is an IPv4 network in CIDR notation with a length from /8 to /29, e.g. 10.20.0.0/24`},
		{"object twice", "", doc("Bridge", "lan", lanBridge) + doc("Bridge", "lan", lanBridge),
			`set.yaml:12: metadata.name: found "lan"; allowed is a value of its own; it is already at set.yaml:5: Bridge lan: metadata.name`},
		{"DHCP end outside the subnet of the set", "", doc("Bridge", "lan", "spec:\n  subnet: 10.20.0.0/25\n") + doc("Appliance", "net", appliance),
			`set.yaml:16: spec.dhcp.end: found "10.20.0.250"; allowed is a host address inside 10.20.0.0/25, the subnet of Bridge lan`},
		{"the network's own address and the broadcast address", "", doc("Bridge", "lan", lanBridge) + doc("Appliance", "net", strings.NewReplacer("10.20.0.100", "10.20.0.0", "10.20.0.250", "10.20.0.255", "10.20.0.1}", "10.20.1.1}").Replace(appliance)),
			`set.yaml:15: spec.lan.address: found "10.20.1.1"; allowed is a host address inside 10.20.0.0/24, the subnet of Bridge lan
set.yaml:16: spec.dhcp.start: found "10.20.0.0"; allowed is a host address inside 10.20.0.0/24, the subnet of Bridge lan
set.yaml:16: spec.dhcp.end: found "10.20.0.255"; allowed is a host address inside 10.20.0.0/24, the subnet of Bridge lan`},
		{"LAN outside the subnet of the set, Appliance first", "", doc("Appliance", "net", strings.Replace(appliance, "10.20.0.1}", "10.21.0.1}", 1)) + doc("Bridge", "lan", lanBridge),
			`set.yaml:8: spec.lan.address: found "10.21.0.1"; allowed is a host address inside 10.20.0.0/24, the subnet of Bridge lan`},
		{"addresses outside a live Bridge", doc("Bridge", "lan", "spec:\n  subnet: 10.30.0.0/24\n"), doc("Appliance", "net", appliance),
			`set.yaml:8: spec.lan.address: found "10.20.0.1"; allowed is a host address inside 10.30.0.0/24, the subnet of Bridge lan
set.yaml:9: spec.dhcp.start: found "10.20.0.100"; allowed is a host address inside 10.30.0.0/24, the subnet of Bridge lan
set.yaml:9: spec.dhcp.end: found "10.20.0.250"; allowed is a host address inside 10.30.0.0/24, the subnet of Bridge lan`},
		{"Bridge moved away below a live Appliance", doc("Bridge", "lan", lanBridge) + doc("Appliance", "net", appliance), doc("Bridge", "lan", "spec:\n  subnet: 10.30.0.0/24\n"),
			`set.yaml:7: spec.subnet: found "10.30.0.0/24"; allowed is a network around the addresses of the Appliance net: LAN 10.20.0.1, DHCP 10.20.0.100 to 10.20.0.250`},
		{"Bridge too large to serve", "", doc("Bridge", "lan", "spec:\n  subnet: 10.0.0.0/8\n") + doc("Appliance", "net", appliance),
			`set.yaml:14: spec.bridgeRef.name: found "lan"; allowed is a Bridge with a subnet of /16 or smaller, this one has 10.0.0.0/8`},
		{"host name twice", "", doc("Vhost", "a", "spec:\n  hosts: [x.prox.local]\n  rules: [{backends: [{address: 10.1.1.1:80}]}]\n") + doc("Vhost", "b", "spec:\n  hosts:\n  - y.prox.local\n  - x.prox.local\n  rules: [{backends: [{address: 10.1.1.1:80}]}]\n"),
			`set.yaml:17: spec.hosts[1]: found "x.prox.local"; allowed is a value of its own; it is already at set.yaml:7: Vhost a: spec.hosts[0]`},
		{"VMID twice", "", doc("App", "a", "spec:\n  vmid: 200\n") + doc("App", "b", "spec:\n  vmid: 200\n"),
			`set.yaml:14: spec.vmid: found "200"; allowed is a value of its own; it is already at set.yaml:7: App a: spec.vmid`},
		{"no such namespace", "", doc("App", "a", "  namespace: shop\nspec: {}\n"),
			`set.yaml:6: metadata.namespace: found "shop"; allowed is a namespace that exists, or one that the same set creates`},
		{"immutable field changed", doc("App", "a", "spec:\n  vmid: 200\n"), doc("App", "a", "spec:\n  vmid: 201\n"),
			`set.yaml:7: spec.vmid: found "201"; allowed is "200": the field cannot change once it is set; delete the App and create it again`},
		{"immutable field removed", doc("App", "a", "spec:\n  vmid: 200\n"), doc("App", "a", "spec:\n  state: Stopped\n"),
			`set.yaml:6: spec.vmid: found "(unset)"; allowed is "200": the field cannot change once it is set; delete the App and create it again`},
		{"fixed address outside the network", doc("Bridge", "lan", lanBridge) + doc("Appliance", "net", appliance), doc("App", "a", "spec:\n  network:\n    applianceRef: {name: net}\n    address: 10.20.0.1\n"),
			`set.yaml:9: spec.network.address: found "10.20.0.1"; allowed is a host address inside 10.20.0.0/24, the subnet of Bridge lan, other than the appliance's 10.20.0.1`},
		{"event", "", doc("Event", "e", "  namespace: default\ntype: Normal\n"),
			`set.yaml:3: kind: found "Event"; objects of this kind are written by the daemon only; they can be read and deleted`},
		{"operation", "", doc("Operation", "o", "spec:\n  action: TestNAT\n"),
			`set.yaml:3: kind: found "Operation"; objects of this kind are carried out once and cannot be part of a set that may be applied again; create them instead`},
		{"namespace on a cluster-scoped kind", "", doc("Bridge", "lan", "  namespace: default\n"+lanBridge),
			`set.yaml:6: metadata.namespace: found "default"; the kind Bridge lives outside namespaces; leave it out`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			if tt.live != "" {
				f.mustApply(tt.live)
			}
			before := f.st.Revision()
			_, err := f.apply(tt.set)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
			var fields resource.FieldErrors
			if !errors.As(err, &fields) {
				t.Errorf("got a %T, want FieldErrors", err)
			}
			if f.st.Revision() != before {
				t.Error("something of the set was applied")
			}
		})
	}
}

// TestSetFromSeveralFiles: errors name their own file and the position in the set.
func TestSetFromSeveralFiles(t *testing.T) {
	f := newFixture(t)
	var docs []resource.Document
	for _, file := range []struct{ name, text string }{{"a.yaml", doc("Bridge", "lan", lanBridge)}, {"b.yaml", doc("Bridge", "lan", lanBridge)}} {
		d, err := resource.DecodeDocuments(f.reg, file.name, []byte(file.text))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, d...)
	}
	_, err := f.ApplySet(t.Context(), docs, apply.Options{})
	var errs resource.FieldErrors
	const want = `b.yaml:5: metadata.name: found "lan"; allowed is a value of its own; it is already at a.yaml:5: Bridge lan: metadata.name`
	if !errors.As(err, &errs) || err.Error() != want || errs[0].Document != 1 {
		t.Errorf("got %v, document %d; want %s", err, errs[0].Document, want)
	}
}

// TestSetAllowed: what is nobody's business at admission.
func TestSetAllowed(t *testing.T) {
	tests := []struct{ name, live, set string }{
		{"Appliance before its Bridge", "", doc("Appliance", "net", appliance)},
		{"Vhost before its App", "", doc("Vhost", "v", "spec:\n  hosts: [x.prox.local]\n  rules: [{backends: [{appRef: {name: later}}]}]\n")},
		{"host name of a live Vhost", doc("Vhost", "a", "spec:\n  hosts: [x.prox.local]\n  rules: [{backends: [{address: 10.1.1.1:80}]}]\n"),
			doc("Vhost", "b", "spec:\n  hosts: [x.prox.local]\n  rules: [{backends: [{address: 10.1.1.1:80}]}]\n")},
		{"VMID of a live App", doc("App", "a", "spec: {vmid: 200}\n"), doc("App", "b", "spec: {vmid: 200}\n")},
		{"same name in two namespaces", doc("Namespace", "shop", ""), doc("App", "a", "spec: {}\n") + doc("App", "a", "  namespace: shop\nspec: {}\n")},
		{"immutable field set later", doc("App", "a", "spec: {}\n"), doc("App", "a", "spec: {vmid: 200}\n")},
		{"subnet and addresses changed together", doc("Bridge", "lan", lanBridge) + doc("Appliance", "net", appliance),
			doc("Bridge", "lan", "spec:\n  subnet: 10.20.0.0/16\n") + doc("Appliance", "net", strings.Replace(appliance, "10.20.0.250", "10.20.3.250", 1))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			if tt.live != "" {
				f.mustApply(tt.live)
			}
			f.mustApply(tt.set)
		})
	}
}

func TestDryRunKeepsNothing(t *testing.T) {
	f := newFixture(t)
	f.mustApply(doc("Bridge", "lan", lanBridge))
	before := f.st.Revision()
	results, err := f.apply(doc("Namespace", "shop", "")+doc("App", "a", "  namespace: shop\nspec: {}\n")+doc("Bridge", "lan", lanBridge+"  mtu: 1400\n"), true)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := outcomes(results), "namespace/shop created, app/a created, bridge/lan configured"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if app, ok := results[1].Object.(*v1alpha1.App); !ok || app.GetSpec().GetState() != "Running" {
		t.Errorf("the result does not show the object as it would be: %v", results[1].Object)
	}
	if f.st.Revision() != before {
		t.Error("a dry run wrote")
	}
	f.absent("App", "shop", "a")
	if _, err := f.apply(doc("App", "a", "  namespace: shop\nspec: {}\n"), true); err == nil {
		t.Error("a dry run did not notice the missing namespace")
	}
}

func TestDocumentsOfAnOlderObjectConflict(t *testing.T) {
	f := newFixture(t)
	f.mustApply(doc("Bridge", "lan", lanBridge))
	live := f.get("Bridge", "", "lan").GetMetadata()
	tests := []struct{ name, body string }{
		{"stale resourceVersion", "  resourceVersion: \"1\"\n" + lanBridge},
		{"other uid", "  uid: 00000000-0000-0000-0000-000000000000\n" + lanBridge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := f.apply(doc("Bridge", "lan", tt.body)); !errors.Is(err, store.ErrConflict) {
				t.Errorf("got %v, want a conflict", err)
			}
			if _, err := f.apply(doc("Bridge", "gone", tt.body)); !errors.Is(err, store.ErrConflict) {
				t.Errorf("without the object: got %v, want a conflict", err)
			}
		})
	}
	current := "  resourceVersion: \"" + live.GetResourceVersion() + "\"\n  uid: " + live.GetUid() + "\n  generation: 77\n  creationTimestamp: \"2001-01-01T00:00:00Z\"\n"
	if got := outcomes(f.mustApply(doc("Bridge", "lan", current+lanBridge))); got != "bridge/lan unchanged" {
		t.Errorf("what get prints, applied again: %s", got)
	}
}

func TestApplyToADeletedObjectConflicts(t *testing.T) {
	f := newFixture(t)
	f.mustApply(doc("Bridge", "lan", "  finalizers: [proximity/bridge]\n"+lanBridge))
	if _, err := f.Delete(t.Context(), resource.Key{Kind: "Bridge", Name: "lan"}, store.Preconditions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.apply(doc("Bridge", "lan", lanBridge)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("got %v, want a conflict", err)
	}
}
