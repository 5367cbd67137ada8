package resource_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

func TestEncode(t *testing.T) {
	app := &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{Name: "web", Labels: map[string]string{"b": "2", "a": "on"}, Generation: 3},
		Spec: &v1alpha1.AppSpec{
			Suspend: proto.Bool(false), Vmid: proto.Int32(0), State: proto.String(""), Network: &v1alpha1.AppNetwork{},
			Packages: []string{"nginx", "123"},
			Files:    []*v1alpha1.AppFile{{Path: proto.String("/a"), Content: proto.String("<a>\n\tb\n"), Mode: proto.String("0644")}},
		},
	}
	const wantJSON = `{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"web","labels":{"a":"on","b":"2"},"generation":3},` +
		`"spec":{"state":"","vmid":0,"network":{},"files":[{"path":"/a","content":"<a>\n\tb\n","mode":"0644"}],"packages":["nginx","123"],"suspend":false}}`
	if got, err := resource.EncodeJSON(app); err != nil || string(got) != wantJSON {
		t.Errorf("got\n%s %v\nwant\n%s", got, err, wantJSON)
	}
	const wantYAML = `apiVersion: proximity/v1alpha1
kind: App
metadata:
  name: web
  labels:
    a: "on"
    b: "2"
  generation: 3
spec:
  state: ""
  vmid: 0
  network: {}
  files:
    - path: /a
      content: |
        <a>
        	b
      mode: "0644"
  packages:
    - nginx
    - "123"
  suspend: false
`
	if got, err := resource.EncodeYAML(app); err != nil || string(got) != wantYAML {
		t.Errorf("got\n%s %v\nwant\n%s", got, err, wantYAML)
	}
	app.Spec.State = proto.String("\xff")
	if _, err := resource.EncodeJSON(app); err == nil {
		t.Error("JSON of text that is not UTF-8")
	}
	if _, err := resource.EncodeYAML(app); err == nil {
		t.Error("YAML of text that is not UTF-8")
	}
}

// trickyText is text that some encoder or decoder is likely to get wrong.
var trickyText = []string{
	"", "null", "~", "yes", "NO", "on", "true", "0", "0x1f", "0o17", "1_000", "1e3", ".inf", "12:30:45", "2024-01-31", "<<", "=",
	"- a", "a: b", "a #b", "#a", "'", `"`, `\`, "*a", "&a", "!a", "%a", "@a", "`a`", "{a}", "[a]", "a,b", "? a", "|", ">", "---", "...",
	" a", "a ", "\ta", "a\n", "\na", "a\n\n", "a\n b", " a\nb", "a \nb", "a\n\tb\n", "a\r\nb", "a\rb", "\u0085", "\u2028", "\u2029x", "\ufeff", "\u007f", "\x01", "😀", "é\nü\n", "a\n# b\n", "---\na\n", strings.Repeat("long words ", 30),
}

// fillMessage gives a message random values, down to any depth that the kinds have.
func fillMessage(t *rapid.T, m protoreflect.Message, label string) {
	text := rapid.OneOf(rapid.SampledFrom(trickyText), rapid.StringN(0, 20, 60).Filter(utf8.ValidString))
	scalar := func(fd protoreflect.FieldDescriptor) protoreflect.Value {
		switch fd.Kind() {
		case protoreflect.StringKind:
			return protoreflect.ValueOfString(text.Draw(t, label))
		case protoreflect.BoolKind:
			return protoreflect.ValueOfBool(rapid.Bool().Draw(t, label))
		}
		return protoreflect.ValueOfInt32(rapid.Int32().Draw(t, label))
	}
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if fd.Name() == "api_version" || fd.Name() == "kind" && fd.Parent() == m.Descriptor() && m.Descriptor().Fields().ByName("api_version") != nil {
			continue
		}
		if !rapid.Bool().Draw(t, "has "+string(fd.Name())) {
			continue
		}
		n := rapid.IntRange(0, 3).Draw(t, "items")
		switch {
		case fd.IsMap():
			for range n {
				m.Mutable(fd).Map().Set(protoreflect.ValueOfString(text.Draw(t, "key")).MapKey(), scalar(fd.MapValue()))
			}
		case fd.IsList() && fd.Message() != nil:
			for range n {
				fillMessage(t, m.Mutable(fd).List().AppendMutable().Message(), label)
			}
		case fd.IsList():
			for range n {
				m.Mutable(fd).List().Append(scalar(fd))
			}
		case fd.Message() != nil:
			fillMessage(t, m.Mutable(fd).Message(), label)
		default:
			m.Set(fd, scalar(fd))
		}
	}
}

// TestRoundTrip: what is encoded is decoded to the same, in both languages, and the
// encoding is valid for other readers.
func TestRoundTrip(t *testing.T) {
	reg := kinds.Registry()
	rapid.Check(t, func(t *rapid.T) {
		kind, err := reg.Lookup(rapid.SampledFrom(reg.Plurals()).Draw(t, "kind"))
		if err != nil {
			t.Fatal(err)
		}
		obj := kind.New()
		fillMessage(t, obj.ProtoReflect(), "text")
		obj.GetMetadata().Name = rapid.StringMatching(`[a-z0-9]{1,10}`).Draw(t, "name")
		asJSON, err := resource.EncodeJSON(obj)
		if err != nil || !json.Valid(asJSON) {
			t.Fatalf("%s is not JSON, %v", asJSON, err)
		}
		if again, _ := resource.EncodeJSON(resource.Clone(obj)); string(again) != string(asJSON) {
			t.Fatalf("not canonical:\n%s\n%s", asJSON, again)
		}
		asYAML, err := resource.EncodeYAML(obj)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{string(asJSON), string(asYAML), "---\n" + string(asYAML) + "---\n# end\n"} {
			docs, err := resource.DecodeDocuments(reg, "", []byte(text))
			if err != nil || len(docs) != 1 {
				t.Fatalf("%d documents, %v in\n%s", len(docs), err, text)
			}
			if !proto.Equal(obj, docs[0].Object) {
				t.Fatalf("got\n%v\nwant\n%v\nfrom\n%s", docs[0].Object, obj, text)
			}
		}
		single, err := resource.DecodeJSON(reg, asJSON)
		if err != nil || !proto.Equal(obj, single) {
			t.Fatalf("DecodeJSON: %v %v", single, err)
		}
	})
}

// TestTrickyText: every text that is known to be difficult, as a value and as a key.
func TestTrickyText(t *testing.T) {
	reg := kinds.Registry()
	for _, s := range trickyText {
		obj := &v1alpha1.Namespace{
			ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Namespace"),
			Metadata: &v1alpha1.ObjectMeta{Name: "x", Annotations: map[string]string{s: s, "between": "a", s + "b": s + s}},
			Spec:     &v1alpha1.NamespaceSpec{Description: proto.String(s)},
		}
		asYAML, err := resource.EncodeYAML(obj)
		if err != nil {
			t.Fatal(err)
		}
		docs, err := resource.DecodeDocuments(reg, "", asYAML)
		if err != nil || len(docs) != 1 || !proto.Equal(docs[0].Object, obj) {
			t.Errorf("%q: %v, %v from\n%s", s, err, docs, asYAML)
		}
	}
}

func FuzzDecodeDocuments(f *testing.F) {
	reg := kinds.Registry()
	for _, kind := range reg.Kinds() {
		f.Add([]byte(fmt.Sprintf(head, kind.Name) + "spec: {}\n"))
	}
	for _, s := range []string{"", "{", "a: &a [*a]", "a: &a {b: *a}\n<<: *a", "? x\n: y", "- - - -", "--- !x\n...", "%YAML 1.1\n---\n", "\xff", "apiVersion: proximity/v1alpha1\nkind: &k App\nmetadata: &m {name: *k, labels: *m}", "kind: List\nitems: [&x {a: *x}]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := resource.DecodeDocuments(reg, "f", data)
		if (err == nil) != (len(docs) > 0) {
			t.Fatalf("%d documents and error %v", len(docs), err)
		}
		for _, d := range docs {
			again, err := resource.EncodeYAML(d.Object)
			if err != nil {
				t.Fatal(err)
			}
			back, err := resource.DecodeDocuments(reg, "f", again)
			if err != nil || len(back) != 1 || !proto.Equal(back[0].Object, d.Object) {
				t.Fatalf("%v: %s", err, again)
			}
			if d.Locate("spec.x[0].y") < 1 {
				t.Fatal("no line")
			}
			k, _ := reg.Get(d.Object.GetKind())
			if k.Default != nil {
				k.Default(d.Object)
			}
			d.Place(k.Check(d.Object))
		}
	})
}

func FuzzDecodeJSON(f *testing.F) {
	reg := kinds.Registry()
	for _, kind := range reg.Kinds() {
		f.Add([]byte(fmt.Sprintf(`{"apiVersion":"proximity/v1alpha1","kind":%q,"metadata":{"name":"x"},"spec":{}}`, kind.Name)))
	}
	f.Add([]byte(`{"kind":"App","kind":1e9,"metadata":{"\u0000":[{}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		obj, err := resource.DecodeJSON(reg, data)
		if err != nil {
			return
		}
		again, err := resource.EncodeJSON(obj)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := resource.DecodeJSON(reg, again); err != nil || !proto.Equal(back, obj) {
			t.Fatalf("%v: %s", err, again)
		}
	})
}

// FuzzDecodeEach: every document is read or wrong, never both, and none is when all are
// read together.
func FuzzDecodeEach(f *testing.F) {
	reg := kinds.Registry()
	good := fmt.Sprintf(head, "App") + "spec: {}\n"
	f.Add([]byte(good + "---\n" + good + "---\nkind: App\n"))
	f.Add([]byte("kind: List\nitems:\n- 7\n- {}\n- [a]\n"))
	f.Add([]byte("- a\n---\n7\n---\n---\n" + good))
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, wrong, total, err := resource.DecodeEach(reg, "f", data)
		all, allErr := resource.DecodeDocuments(reg, "f", data)
		if err != nil {
			if allErr == nil {
				t.Fatalf("together they are read, each is not: %v", err)
			}
			return
		}
		if len(docs)+len(wrong) != total {
			t.Fatalf("%d read and %d wrong of %d", len(docs), len(wrong), total)
		}
		for _, d := range docs {
			if d.Index >= total || wrong[d.Index] != nil {
				t.Fatalf("document %d of %d is read and wrong: %v", d.Index, total, wrong[d.Index])
			}
		}
		for i, errs := range wrong {
			if len(errs) == 0 || i >= total {
				t.Fatalf("document %d of %d is wrong, and nothing says why", i, total)
			}
		}
		if (len(wrong) == 0 && total > 0) != (allErr == nil) || allErr == nil && len(all) != len(docs) {
			t.Fatalf("%d are wrong, together: %v", len(wrong), allErr)
		}
	})
}
