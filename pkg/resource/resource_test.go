package resource_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

func TestCell(t *testing.T) {
	app := &v1alpha1.App{
		Kind:     proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{Name: "web", Labels: map[string]string{"b": "2", "a/x": "1"}},
		Spec: &v1alpha1.AppSpec{
			Vmid: proto.Int32(105), Suspend: proto.Bool(false), Packages: []string{"nginx", "curl"},
			Ports:   []*v1alpha1.AppPort{{Name: proto.String("http"), Port: proto.Int32(80)}, {Name: proto.String("admin")}},
			Network: &v1alpha1.AppNetwork{ApplianceRef: &v1alpha1.LocalReference{Name: proto.String("net")}},
			Source:  &v1alpha1.AppSource{Image: proto.String("x")},
		},
		Status: &v1alpha1.AppStatus{Conditions: []*v1alpha1.Condition{{Type: "Ready", Status: "True"}}},
	}
	event := &v1alpha1.Event{Regarding: &v1alpha1.ObjectReference{Kind: proto.String("App"), Name: proto.String("web")}, Count: 2}
	if got := resource.Cell(event, "regarding") + " " + resource.Cell(event, "count"); got != "app/web 2" {
		t.Errorf("event: %q", got)
	}
	for path, want := range map[string]string{
		"condition:Ready": "True", "condition:Other": "", "metadata.name": "web", "spec.vmid": "105", "spec.suspend": "false",
		"spec.packages": "nginx,curl", "spec.ports": "http,admin", "spec.ports[0].port": "80", "spec.ports[2].port": "",
		"metadata.labels": "a/x=1,b=2", "metadata.labels[a/x]": "1", "metadata.labels[c]": "",
		"spec.network.applianceRef": "net", "spec.source": "", "spec.hostname": "", "spec.nothing": "", "spec.vmid.x": "", "": "", "status.address": "",
	} {
		if got := resource.Cell(app, path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

// TestColumnsExist: every printer column of every kind names a field that there is.
func TestColumnsExist(t *testing.T) {
	for _, kind := range kinds.Registry().Kinds() {
		for _, column := range kind.Columns {
			if strings.HasPrefix(column.GetPath(), "condition:") {
				continue
			}
			keys, isKeys := strings.CutPrefix(column.GetPath(), "keys:")
			paths := []string{column.GetPath()}
			if isKeys {
				paths = strings.Split(keys, ",")
			}
			for _, path := range paths {
				md := kind.Descriptor()
				for _, step := range strings.Split(path, ".") {
					fd := md.Fields().ByJSONName(step)
					if fd == nil {
						t.Errorf("%s: column %s: no field %s", kind.Name, column.GetName(), path)
						break
					}
					if md = fd.Message(); md == nil {
						break
					}
				}
			}
		}
	}
}

func TestSetCondition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &v1alpha1.Bridge{Kind: proto.String("Bridge"), Metadata: &v1alpha1.ObjectMeta{Generation: 2}}
		set := func(status, reason string) bool {
			return resource.SetCondition(b, &v1alpha1.Condition{Type: "Ready", Status: status, Reason: reason, ObservedGeneration: 2})
		}
		if !set("False", "Waiting") {
			t.Error("the first one changed nothing")
		}
		start := resource.FindCondition(b, "Ready").GetLastTransitionTime()
		if want := time.Now().UTC().Format(time.RFC3339); start != want {
			t.Errorf("time %q, want %q", start, want)
		}
		time.Sleep(time.Minute)
		if set("False", "Waiting") {
			t.Error("the same again is a change")
		}
		if !set("False", "Other") || resource.FindCondition(b, "Ready").GetLastTransitionTime() != start {
			t.Error("another reason: no change, or a transition")
		}
		if resource.IsReady(b) {
			t.Error("ready too early")
		}
		if !set("True", "Done") || resource.FindCondition(b, "Ready").GetLastTransitionTime() == start || !resource.IsReady(b) {
			t.Errorf("no transition: %v", b.GetStatus())
		}
		given := &v1alpha1.Condition{Type: "Other", Status: "True", LastTransitionTime: "2020-01-01T00:00:00Z"}
		if !resource.SetCondition(b, given) || resource.FindCondition(b, "Other") == given || resource.FindCondition(b, "Other").GetLastTransitionTime() != given.LastTransitionTime {
			t.Error("the condition is not a copy, or its time was not kept")
		}
		if !resource.RemoveCondition(b, "Ready") || resource.RemoveCondition(b, "Ready") || len(resource.Conditions(b)) != 1 {
			t.Errorf("conditions after removal: %v", resource.Conditions(b))
		}
		if resource.SetCondition(&v1alpha1.Event{}, given) {
			t.Error("an Event has no conditions")
		}
	})
}

func TestParseQuantity(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "0Mi": 0, "1Ki": 1024, "512Mi": 512 << 20, "8Gi": 8 << 30, "2Ti": 2 << 40, "8388607Ti": 8388607 << 40} {
		if got, err := resource.ParseQuantity(s); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "512", "512M", "512MB", "512mi", "1.5Gi", "-1Gi", "+1Gi", " 1Gi", "1Gi ", "1 Gi", "Gi", "01Gi", "0x1Gi", "8388608Ti", "99999999999999999999Ki", "1Gi\n", "1Ei"} {
		if got, err := resource.ParseQuantity(s); err == nil {
			t.Errorf("%q was taken for %d", s, got)
		}
	}
	for s, want := range map[string]int64{"512Mi": 512, "1Ki": 1, "1025Ki": 2, "nonsense": 0, "0": 0} {
		if got := resource.QuantityMiB(s); got != want {
			t.Errorf("%s: %d MiB, want %d", s, got, want)
		}
	}
}

func FuzzParseQuantity(f *testing.F) {
	for _, s := range []string{"0", "512Mi", "8Gi", "8388608Ti", "1.5Gi", "-1Ki"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := resource.ParseQuantity(s)
		if err != nil {
			return
		}
		if n < 0 || resource.QuantityMiB(s) < 0 || resource.QuantityMiB(s) > n/resource.MebiByte+1 {
			t.Fatalf("%q is %d bytes and %d MiB", s, n, resource.QuantityMiB(s))
		}
	})
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 63)
	for s, want := range map[string]bool{"a": true, "a-1": true, "1": true, long: true, long + "a": false, "": false, "-a": false, "a-": false, "A": false, "a.b": false, "a_b": false, "a\n": false, "ä": false} {
		if got := resource.IsDNSLabel(s); got != want {
			t.Errorf("label %q: %t", s, got)
		}
	}
	for s, want := range map[string]bool{"a.b": true, "a": true, "a..b": false, ".a": false, "a.": false, strings.Repeat(long+".", 4) + "a": false, strings.Repeat(long+".", 3) + "a": true} {
		if got := resource.IsDNSName(s); got != want {
			t.Errorf("name %q: %t", s, got)
		}
	}
	for s, want := range map[string]bool{"tier": true, "example.org/tier": true, "Example.org/tier": false, "/tier": false, "a/b/c": false, "a b": false, "a/": false, "proximity/bridge": true, "": false} {
		if got := resource.IsLabelKey(s); got != want {
			t.Errorf("key %q: %t", s, got)
		}
	}
	for s, want := range map[string]bool{"": true, "1.2_3-x": true, "-x": false, "x ": false, "x\n": false} {
		if got := resource.IsLabelValue(s); got != want {
			t.Errorf("value %q: %t", s, got)
		}
	}
}

// TestCheckMetadata: each object has exactly one thing wrong.
func TestCheckMetadata(t *testing.T) {
	app, _ := kinds.Registry().Get("App")
	tests := []struct {
		name   string
		change func(*v1alpha1.ObjectMeta)
		want   string
	}{
		{"nothing", func(*v1alpha1.ObjectMeta) {}, ""},
		{"name", func(m *v1alpha1.ObjectMeta) { m.Name = "Web" }, `metadata.name: found "Web"; allowed is a DNS name`},
		{"long name", func(m *v1alpha1.ObjectMeta) { m.Name = strings.Repeat("a.", 64) + "a" }, `metadata.name: found`},
		{"dotted name", func(m *v1alpha1.ObjectMeta) { m.Name = "web.prox.local" }, ""},
		{"dotted namespace", func(m *v1alpha1.ObjectMeta) { m.Namespace = "a.b" }, `metadata.namespace: found "a.b"; allowed is a DNS label`},
		{"namespace", func(m *v1alpha1.ObjectMeta) { m.Namespace = "" }, `metadata.namespace: found ""; allowed is a DNS label`},
		{"label key", func(m *v1alpha1.ObjectMeta) { m.Labels = map[string]string{"a b": "c"} }, `metadata.labels[a b]: found "a b"; allowed is as key`},
		{"label value", func(m *v1alpha1.ObjectMeta) { m.Labels = map[string]string{"a": "c d"} }, `metadata.labels[a]: found "c d"; allowed is empty`},
		{"annotation", func(m *v1alpha1.ObjectMeta) { m.Annotations = map[string]string{"": "x"} }, `metadata.annotations[]: found ""; allowed is as key`},
		{"annotations too long", func(m *v1alpha1.ObjectMeta) {
			m.Annotations = map[string]string{"a": strings.Repeat("x", resource.MaxAnnotationsBytes)}
		}, `metadata.annotations: found "262145 bytes"; allowed is at most 262144 bytes together`},
		{"finalizer", func(m *v1alpha1.ObjectMeta) { m.Finalizers = []string{"ok", "not ok"} }, `metadata.finalizers[1]: found "not ok"`},
		{"owner", func(m *v1alpha1.ObjectMeta) { m.OwnerReferences = []*v1alpha1.OwnerReference{{Name: "x"}} }, `metadata.ownerReferences[0].uid: missing`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj := app.New()
			obj.GetMetadata().Name, obj.GetMetadata().Namespace = "web", "default"
			tt.change(obj.GetMetadata())
			errs := app.CheckMetadata(obj)
			if got := errs.Error(); tt.want == "" && len(errs) > 0 || tt.want != "" && len(errs) != 1 || !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRegistryRefuses(t *testing.T) {
	twice := resource.Definition{Message: &v1alpha1.App{}}
	if _, err := kinds.New(twice); err == nil || !strings.Contains(err.Error(), `both use the name "app"`) {
		t.Errorf("a kind twice: %v", err)
	}
	if _, err := resource.NewRegistry(resource.Definition{Message: notAKind{&v1alpha1.App{}}}); err == nil || !strings.Contains(err.Error(), "no (kind) option") {
		t.Errorf("a message that is no kind: %v", err)
	}
}

// notAKind is an Object whose message has no (kind) option.
type notAKind struct{ *v1alpha1.App }

func (notAKind) ProtoReflect() protoreflect.Message { return (&v1alpha1.ObjectMeta{}).ProtoReflect() }

// TestDidYouMean: a swap, an insertion, a deletion or a replacement is one mistake; another
// spelling convention is none.
func TestDidYouMean(t *testing.T) {
	reg := kinds.Registry()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"Namespace", "Cluster", "Bridge", "Appliance", "Vhost", "Operation", "Event"}).Draw(t, "kind")
		at := rapid.IntRange(1, len(name)-2).Draw(t, "at")
		wrong := rapid.SampledFrom([]string{
			name[:at] + name[at+1:], name[:at] + "x" + name[at:], name[:at] + "x" + name[at+1:],
			name[:at] + name[at+1:at+2] + name[at:at+1] + name[at+2:], strings.ToUpper(name), name[:at] + "_" + name[at:],
		}).Draw(t, "wrong")
		if wrong == name {
			t.Skip("no mistake")
		}
		_, err := resource.DecodeDocuments(reg, "", []byte("apiVersion: proximity/v1alpha1\nkind: "+wrong+"\n"))
		if err == nil || !strings.Contains(err.Error(), "did you mean "+name+"?") {
			t.Fatalf("%s: %v", wrong, err)
		}
	})
}
