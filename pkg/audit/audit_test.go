package audit_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
)

func app(change func(*v1alpha1.App)) *v1alpha1.App {
	a := &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{Name: "web", ResourceVersion: "5", Labels: map[string]string{"a": "1", "b": "2"}},
		Spec: &v1alpha1.AppSpec{Hostname: proto.String("web"), Packages: []string{"nginx"},
			Resources: &v1alpha1.Resources{Cores: proto.Int32(1)}},
		Status: &v1alpha1.AppStatus{State: proto.String("Running")},
	}
	if change != nil {
		change(a)
	}
	return a
}

func TestChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*v1alpha1.App)
		want   []string
	}{
		"nothing": {nil, nil},
		"what only the server sets": {func(a *v1alpha1.App) {
			a.Metadata.ResourceVersion, a.Metadata.Generation = "6", 2
			a.Metadata.ManagedFields = []*v1alpha1.ManagedFieldsEntry{{Manager: "x"}}
		}, nil},
		"labels": {func(a *v1alpha1.App) { a.Metadata.Labels = map[string]string{"b": "3", "c": "4"} },
			[]string{"metadata.labels[a]", "metadata.labels[b]", "metadata.labels[c]"}},
		"a field":    {func(a *v1alpha1.App) { a.Spec.Hostname = proto.String("x") }, []string{"spec.hostname"}},
		"set to 0":   {func(a *v1alpha1.App) { a.Spec.Vmid = proto.Int32(0) }, []string{"spec.vmid"}},
		"a list":     {func(a *v1alpha1.App) { a.Spec.Packages = append(a.Spec.Packages, "curl") }, []string{"spec.packages"}},
		"inside":     {func(a *v1alpha1.App) { a.Spec.Resources.Cores = proto.Int32(2) }, []string{"spec.resources.cores"}},
		"a message":  {func(a *v1alpha1.App) { a.Spec.Resources = nil }, []string{"spec.resources"}},
		"the status": {func(a *v1alpha1.App) { a.Status.State = proto.String("Stopped") }, []string{"status"}},
		"deletion":   {func(a *v1alpha1.App) { a.Metadata.DeletionTimestamp = "2026-01-01T00:00:00Z" }, []string{"metadata.deletionTimestamp"}},
		"the spec":   {func(a *v1alpha1.App) { a.Spec = nil }, []string{"spec"}},
		"very many": {func(a *v1alpha1.App) {
			for i := range 100 {
				a.Metadata.Labels[strings.Repeat("x", i+1)] = ""
			}
		}, nil},
	} {
		got, _ := audit.Changed(app(nil), app(c.change))
		if name == "very many" {
			if len(got) != audit.MaxFields || got[audit.MaxFields-1] != "..." {
				t.Errorf("%s: %d paths, the last is %q", name, len(got), got[len(got)-1])
			}
			continue
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestBatchesComeBackAsTheyWere(t *testing.T) {
	text := rapid.StringN(0, 20, 40)
	rapid.Check(t, func(t *rapid.T) {
		origins := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *audit.Origin {
			return &audit.Origin{Type: text.Draw(t, "type"), Identity: text.Draw(t, "identity"), Surface: text.Draw(t, "surface"),
				Peer: text.Draw(t, "peer"), Request: text.Draw(t, "request"), Verb: text.Draw(t, "verb"), Manager: text.Draw(t, "manager"),
				GitRevision: text.Draw(t, "git revision")}
		}), 1, 3).Draw(t, "origins")
		records := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *audit.Record {
			return &audit.Record{Origin: rapid.SampledFrom(origins).Draw(t, "origin"), Revision: rapid.Uint64().Draw(t, "revision"),
				Time: time.Unix(0, rapid.Int64().Draw(t, "time")), Effect: audit.Created, UID: text.Draw(t, "uid"),
				Key:    resource.Key{Kind: text.Draw(t, "kind"), Namespace: text.Draw(t, "namespace"), Name: text.Draw(t, "name")},
				Fields: rapid.SliceOfN(text, 0, audit.MaxFields).Draw(t, "fields"),
				Values: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) audit.Value {
					return audit.Value{Path: text.Draw(t, "path"), Before: rapid.Ptr(text, true).Draw(t, "before"), After: rapid.Ptr(text, true).Draw(t, "after")}
				}), 0, audit.MaxFields).Draw(t, "values")}
		}), 1, 10).Draw(t, "records")
		encoded := audit.EncodeBatch(records)
		if n, last, err := audit.BatchHead(encoded); err != nil || n != len(records) || !last.Equal(records[n-1].Time) {
			t.Fatalf("head: %d records, %v, %v", n, last, err)
		}
		got, err := audit.DecodeBatch(encoded)
		if err != nil {
			t.Fatal(err)
		}
		for i := range records {
			if len(records[i].Fields) == 0 {
				records[i].Fields = nil
			}
			if len(records[i].Values) == 0 {
				records[i].Values = nil
			}
		}
		if !reflect.DeepEqual(got, records) {
			t.Fatalf("got %v, want %v", got, records)
		}
		if cut := encoded[:rapid.IntRange(0, len(encoded)-1).Draw(t, "cut")]; len(cut) > 0 {
			if _, err := audit.DecodeBatch(cut); err == nil {
				t.Fatal("a batch that was cut off was taken")
			}
		}
	})
}

// firstVersion is a batch as it was written before records had values.
const firstVersion = "\x01\x01\x00\x00\x00\x00\x3b\x9a\xca\x00" + "\x04user\x05alice\x04rest\x00\x00\x05patch\x07proxctl" + "\x01" +
	"\x07" + "\x00\x00\x00\x00\x3b\x9a\xca\x00" + "M" + "\x03App\x01a\x03web\x01u" + "\x01\x0dspec.hostname"

// TestBatchesOfTheFirstVersionAreRead: a database keeps its records when the daemon is replaced.
func TestBatchesOfTheFirstVersionAreRead(t *testing.T) {
	got, err := audit.DecodeBatch([]byte(firstVersion))
	want := []*audit.Record{{Origin: &audit.Origin{Type: "user", Identity: "alice", Surface: "rest", Verb: "patch", Manager: "proxctl"}, Revision: 7,
		Time: time.Unix(1, 0), Effect: audit.Modified, Key: resource.Key{Kind: "App", Namespace: "a", Name: "web"}, UID: "u", Fields: []string{"spec.hostname"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(audit.EncodeBatch([]*audit.Record{{Origin: &audit.Origin{Type: "x"}, Revision: 7, Time: time.Unix(1, 0), Effect: audit.Deleted, Fields: []string{"spec"},
		Values: []audit.Value{{Path: "spec", Before: new(string)}}}}))
	f.Add([]byte(firstVersion))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := audit.DecodeBatch(b)
		if err != nil || len(records) == 0 {
			return
		}
		again, err := audit.DecodeBatch(audit.EncodeBatch(records))
		if err != nil || !reflect.DeepEqual(again, records) {
			t.Fatalf("%v came back as %v, %v", records, again, err)
		}
	})
}

func BenchmarkChanged(b *testing.B) {
	was, is := app(nil), app(func(a *v1alpha1.App) { a.Spec.Vmid = proto.Int32(7) })
	for _, a := range []*v1alpha1.App{was, is} {
		a.Spec.Files = []*v1alpha1.AppFile{{Path: proto.String("/etc/motd"), Content: proto.String(strings.Repeat("welcome ", 64))}}
		a.Spec.Ports = []*v1alpha1.AppPort{{Name: proto.String("http"), Port: proto.Int32(80)}}
		for _, name := range []string{"A", "B", "C"} {
			a.Spec.Env = append(a.Spec.Env, &v1alpha1.EnvVar{Name: proto.String(name), Value: proto.String("as it should be")})
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		audit.Changed(was, is)
	}
}
