package diff

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

func app(change func(*v1alpha1.App)) *v1alpha1.App {
	a := &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{Name: "web", Namespace: "default", Labels: map[string]string{"a": "1"}, ResourceVersion: "7"},
		Spec: &v1alpha1.AppSpec{
			Hostname: proto.String("web"), Packages: []string{"nginx"},
			Ports: []*v1alpha1.AppPort{{Name: proto.String("http"), Port: proto.Int32(80)}, {Name: proto.String("admin"), Port: proto.Int32(81)}},
		},
		Status: &v1alpha1.AppStatus{Vmid: proto.Int32(100)},
	}
	if change != nil {
		change(a)
	}
	return a
}

func TestObjects(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*v1alpha1.App)
		want   string
	}{
		"nothing":       {nil, ""},
		"scalar":        {func(a *v1alpha1.App) { a.Spec.Hostname = proto.String("<b>") }, `spec.hostname: "web" -> "<b>"`},
		"set to zero":   {func(a *v1alpha1.App) { a.Spec.Vmid = proto.Int32(0) }, `spec.vmid:  -> 0`},
		"removed":       {func(a *v1alpha1.App) { a.Spec.Hostname = nil }, `spec.hostname: "web" -> `},
		"list":          {func(a *v1alpha1.App) { a.Spec.Packages = []string{"nginx", "curl"} }, `spec.packages: ["nginx"] -> ["nginx","curl"]`},
		"item":          {func(a *v1alpha1.App) { a.Spec.Ports[1].Port = proto.Int32(82) }, `spec.ports[name=admin].port: 81 -> 82`},
		"item gone":     {func(a *v1alpha1.App) { a.Spec.Ports = a.Spec.Ports[:1] }, `spec.ports[name=admin].name: "admin" -> ; spec.ports[name=admin].port: 81 -> `},
		"order":         {func(a *v1alpha1.App) { a.Spec.Ports[0], a.Spec.Ports[1] = a.Spec.Ports[1], a.Spec.Ports[0] }, `spec.ports: ["name=http","name=admin"] -> ["name=admin","name=http"]`},
		"label":         {func(a *v1alpha1.App) { a.Metadata.Labels = map[string]string{"b": "2"} }, `metadata.labels[a]: "1" -> ; metadata.labels[b]:  -> "2"`},
		"empty message": {func(a *v1alpha1.App) { a.Spec.HealthCheck = &v1alpha1.AppHealthCheck{} }, `spec.healthCheck:  -> {}`},
		"server's":      {func(a *v1alpha1.App) { a.Metadata.ResourceVersion = "8"; a.Status.Vmid = proto.Int32(101) }, ""},
		"commands": {func(a *v1alpha1.App) { a.Spec.Commands = []*v1alpha1.AppCommand{{Argv: []string{"ls"}}} },
			`spec.commands:  -> [{"argv":["ls"]}]`},
	} {
		var parts []string
		for _, c := range Objects(app(nil), app(tc.change)) {
			parts = append(parts, fmt.Sprintf("%s: %s -> %s", c.Path, c.Old, c.New))
		}
		if got := strings.Join(parts, "; "); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	if got := Objects(nil, app(nil)); len(got) != 7 || got[0].Path != "metadata.labels[a]" || got[0].Old != "" {
		t.Errorf("created: %v", got)
	}
	if got := Objects(app(nil), nil); len(got) != 7 || got[0].New != "" {
		t.Errorf("deleted: %v", got)
	}
	if got := Objects(nil, nil); got != nil {
		t.Errorf("neither: %v", got)
	}
}

// TestDiffTellsExactlyWhatDiffers: no changes for equals, and the same paths both ways with
// old and new exchanged; every value is JSON.
func TestDiffTellsExactlyWhatDiffers(t *testing.T) {
	draw := func(t *rapid.T, name string) *v1alpha1.App {
		return app(func(a *v1alpha1.App) {
			if rapid.Bool().Draw(t, name+" host") {
				a.Spec.Hostname = proto.String(rapid.SampledFrom([]string{"", "a", "é\x00"}).Draw(t, name+" hostname"))
			}
			a.Spec.Packages = rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y"}), 0, 2).Draw(t, name+" packages")
			a.Metadata.Labels = rapid.MapOfN(rapid.SampledFrom([]string{"k", "l"}), rapid.SampledFrom([]string{"", "v"}), 0, 2).Draw(t, name+" labels")
			for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"A", "B", "C"}), 0, 3, rapid.ID).Draw(t, name+" env") {
				a.Spec.Env = append(a.Spec.Env, &v1alpha1.EnvVar{Name: proto.String(n), Value: proto.String(rapid.SampledFrom([]string{"1", "2"}).Draw(t, name+n))})
			}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t, "a"), draw(t, "b")
		there, back := Objects(a, b), Objects(b, a)
		equal := proto.Equal(a.Spec, b.Spec) && fmt.Sprint(a.Metadata.Labels) == fmt.Sprint(b.Metadata.Labels)
		if equal != (len(there) == 0) {
			t.Fatalf("equal %v, changes %v", equal, there)
		}
		turned := map[Change]bool{}
		for _, c := range back {
			turned[Change{c.Path, c.New, c.Old}] = true
		}
		for _, c := range there {
			if !turned[c] {
				t.Fatalf("%v is not in the way back %v", c, back)
			}
			for _, v := range []string{c.Old, c.New} {
				if v != "" && !json.Valid([]byte(v)) {
					t.Fatalf("%s: %q is no JSON", c.Path, v)
				}
			}
		}
	})
}

// secretKind is a kind with sensitive fields of every shape.
func secretKind(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	hide := &descriptorpb.FieldOptions{}
	proto.SetExtension(hide, v1alpha1.E_Sensitive, true)
	str, msg := descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum()
	one, many := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	name := proto.String
	file := &descriptorpb.FileDescriptorProto{
		Name: name("hidden.proto"), Package: name("hidden"), Syntax: name("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: name("Spec"),
			Field: []*descriptorpb.FieldDescriptorProto{
				{Name: name("password"), JsonName: name("password"), Number: proto.Int32(1), Type: str, Label: one, Options: hide},
				{Name: name("keys"), JsonName: name("keys"), Number: proto.Int32(2), Type: str, Label: many, Options: hide},
				{Name: name("data"), JsonName: name("data"), Number: proto.Int32(3), Type: msg, TypeName: name(".hidden.Spec.DataEntry"), Label: many, Options: hide},
				{Name: name("nested"), JsonName: name("nested"), Number: proto.Int32(4), Type: msg, TypeName: name(".hidden.Spec"), Label: many},
				{Name: name("plain"), JsonName: name("plain"), Number: proto.Int32(5), Type: str, Label: one},
			},
			NestedType: []*descriptorpb.DescriptorProto{{
				Name: name("DataEntry"), Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
				Field: []*descriptorpb.FieldDescriptorProto{
					{Name: name("key"), JsonName: name("key"), Number: proto.Int32(1), Type: str, Label: one},
					{Name: name("value"), JsonName: name("value"), Number: proto.Int32(2), Type: str, Label: one},
				},
			}},
		}},
	}
	fd, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return fd.Messages().Get(0)
}

func secretSpec(md protoreflect.MessageDescriptor, value string) protoreflect.Message {
	m := dynamicpb.NewMessage(md)
	set := func(m protoreflect.Message) {
		f := md.Fields()
		m.Set(f.ByName("password"), protoreflect.ValueOfString(value))
		m.Mutable(f.ByName("keys")).List().Append(protoreflect.ValueOfString(value))
		m.Mutable(f.ByName("data")).Map().Set(protoreflect.ValueOfString("k").MapKey(), protoreflect.ValueOfString(value))
		m.Set(f.ByName("plain"), protoreflect.ValueOfString("shown"))
	}
	set(m)
	set(m.Mutable(md.Fields().ByName("nested")).List().AppendMutable().Message())
	return m
}

func TestSensitiveValuesAreHidden(t *testing.T) {
	md := secretKind(t)
	for _, pair := range [][2]protoreflect.Message{
		{secretSpec(md, "s3cret"), secretSpec(md, "t0psecret")}, {secretSpec(md, "s3cret"), secretSpec(md, "s3cret")},
		{nil, secretSpec(md, "s3cret")}, {secretSpec(md, "s3cret"), nil},
	} {
		var changes []Change
		message(&changes, "spec", pair[0], pair[1])
		same := pair[0] != nil && pair[1] != nil && pair[0].Get(md.Fields().ByName("password")).Equal(pair[1].Get(md.Fields().ByName("password")))
		if same != (len(changes) == 0) {
			t.Errorf("same %v, changes %v", same, changes)
		}
		mask(pair[0], pair[1])
		text := fmt.Sprint(changes)
		var shown []string
		for _, m := range pair {
			if m != nil {
				text += fmt.Sprint(m.Interface())
				shown = append(shown, fmt.Sprint(m.Interface()))
			}
		}
		if strings.Contains(text, "s3cret") || strings.Contains(text, "t0psecret") {
			t.Errorf("a secret is shown: %s", text)
		}
		if !strings.Contains(text, "shown") {
			t.Errorf("too much is hidden: %s", text)
		}
		if len(shown) == 2 && same != (shown[0] == shown[1]) {
			t.Errorf("same %v, shown as %v", same, shown)
		}
	}
}

func TestShownIsACopy(t *testing.T) {
	a := app(func(a *v1alpha1.App) { a.Metadata.ManagedFields = []*v1alpha1.ManagedFieldsEntry{{Manager: "x"}} })
	live, next := Shown(a, nil)
	if next != nil || live.GetMetadata().GetManagedFields() != nil || len(a.Metadata.ManagedFields) != 1 {
		t.Errorf("shown %v, %v", live, next)
	}
}
