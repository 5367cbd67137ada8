package resource_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/internal/kindtest"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// mend makes some of what is wrong with a random object right, so that not all are wrong:
// allowed values, and keys that tell items apart.
func mend(t *rapid.T, m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		allowed := resource.Allowed(fd)
		switch {
		case fd.IsMap():
		case fd.IsList() && fd.Message() != nil:
			keys := resource.ListKeys(fd)
			for i := range v.List().Len() {
				item := v.List().Get(i).Message()
				mend(t, item)
				for _, key := range keys {
					if kd := item.Descriptor().Fields().ByJSONName(key); kd.Kind() == protoreflect.StringKind && !rarely(t) {
						item.Set(kd, protoreflect.ValueOfString(strings.Repeat("k", i+1)))
					}
				}
			}
		case fd.Message() != nil:
			mend(t, v.Message())
		case allowed != nil && !fd.IsList() && !rarely(t):
			m.Set(fd, protoreflect.ValueOfString(rapid.SampledFrom(allowed).Draw(t, "allowed")))
		}
		return true
	})
}

func rarely(t *rapid.T) bool { return rapid.IntRange(0, 20).Draw(t, "rarely") == 0 }

// TestFineIsFine: the short way says fine only of what the long one finds nothing wrong with,
// and it says so of all of that, but for what it leaves to the long one.
func TestFineIsFine(t *testing.T) {
	fine, wrong := 0, 0
	for _, k := range kindtest.Registry().Kinds() {
		t.Run(k.Name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				obj := k.New()
				fillRandomly(t, obj.ProtoReflect(), rapid.IntRange(0, 4).Draw(t, "depth"))
				mend(t, obj.ProtoReflect())
				found := append(k.CheckShape(obj), k.CheckRules(obj)...)
				_, hasSpec := resource.Field(obj, "spec")
				switch got := k.IsFine(obj); {
				case got && len(found) > 0:
					t.Fatalf("%s\nis called fine, but %v", obj, found)
				case !got && len(found) == 0 && hasSpec && len(k.ManyKeys(obj)) == 0:
					t.Fatalf("%s\nis not called fine, and nothing is wrong with it", obj)
				case got:
					fine++
				default:
					wrong++
				}
			})
		})
	}
	if fine < 100 || wrong < 100 {
		t.Errorf("%d objects were fine and %d were not", fine, wrong)
	}
}

// TestFineMetadata does the same for metadata.
func TestFineMetadata(t *testing.T) {
	fine, wrong := 0, 0
	name := rapid.SampledFrom([]string{"a", "a", "a", "web.example", "A", "", "x_y", "a/b", "a/b/c"})
	rapid.Check(t, func(t *rapid.T) {
		kinds := kindtest.Registry().Kinds()
		k := kinds[rapid.IntRange(0, len(kinds)-1).Draw(t, "kind")]
		entries := rapid.MapOfN(name, name, 0, 2)
		m := &v1alpha1.ObjectMeta{Name: name.Draw(t, "name"), Labels: entries.Draw(t, "labels"), Annotations: entries.Draw(t, "annotations"),
			Finalizers: rapid.SliceOfN(name, 0, 1).Draw(t, "finalizers")}
		if k.Namespaced != rarely(t) {
			m.Namespace = name.Draw(t, "namespace")
		}
		if rarely(t) {
			m.Annotations = map[string]string{"a": strings.Repeat("x", resource.MaxAnnotationsBytes-rapid.IntRange(0, 1).Draw(t, "less"))}
		}
		if n := rapid.IntRange(0, 400).Draw(t, "many"); n > 350 {
			m.Finalizers = make([]string, n-340)
			for i := range m.Finalizers {
				m.Finalizers[i] = "a"
			}
		}
		found := k.LongCheckMetadata(m)
		if got := k.IsFineMetadata(m); got != (len(found) == 0) {
			t.Fatalf("%s of %s: fine is %t, but %v", m, k.Name, got, found)
		}
		if len(found) == 0 {
			fine++
		} else {
			wrong++
		}
	})
	if fine < 5 || wrong < 5 {
		t.Errorf("%d were fine and %d were not", fine, wrong)
	}
}
