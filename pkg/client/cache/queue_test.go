package cache

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// TestQueue does random things to a queue and holds it to its contract: a handler that takes
// everything knows what there is; what it is told fits to what it knows; while there is
// room every change is told; beyond, what waits is bounded.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 8).Draw(t, "most")
		q := newQueue[*v1alpha1.App](most)
		names := []string{"a", "b", "c", "d"}
		there, knows := map[string]int32{}, map[string]int32{}
		version, changes, told, crowded := int32(0), 0, 0, false
		take := func() bool {
			c, old, had := q.take()
			if c == nil {
				return false
			}
			told++
			before, knew := knows[c.key.Name]
			if had != knew || had && old.GetMetadata().GetGeneration() != before {
				t.Fatalf("%s: told with %v %v, knew %d %v", c.key.Name, had, old, before, knew)
			}
			switch {
			case c.has && had && c.obj.GetMetadata().GetGeneration() <= before:
				t.Fatalf("%s: told %d after %d", c.key.Name, c.obj.GetMetadata().GetGeneration(), before)
			case c.has:
				knows[c.key.Name] = c.obj.GetMetadata().GetGeneration()
			case !had:
				t.Fatalf("%s: told of the deletion of what it does not know", c.key.Name)
			default:
				delete(knows, c.key.Name)
			}
			return true
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				version++
				name := rapid.SampledFrom(names).Draw(t, "name")
				crowded = crowded || q.waiting.Len() >= most
				q.put(resource.Key{Name: name}, &v1alpha1.App{Metadata: &v1alpha1.ObjectMeta{Name: name, Generation: version}})
				there[name] = version
				changes++
			},
			"remove": func(t *rapid.T) {
				name := rapid.SampledFrom(names).Draw(t, "name")
				if _, has := there[name]; !has {
					t.Skip("it is not there")
				}
				crowded = crowded || q.waiting.Len() >= most
				q.remove(resource.Key{Name: name}, Tombstone[*v1alpha1.App]{})
				delete(there, name)
				changes++
			},
			"take": func(*rapid.T) { take() },
			"": func(t *rapid.T) {
				if n := q.waiting.Len(); n > most+len(names) {
					t.Fatalf("%d changes wait", n)
				}
			},
		})
		for take() {
		}
		if fmt.Sprint(there) != fmt.Sprint(knows) {
			t.Fatalf("there is %v, told was %v", there, knows)
		}
		if !crowded && told != changes {
			t.Fatalf("%d changes, %d told, and there was room", changes, told)
		}
		if len(q.newest) != 0 {
			t.Fatalf("left over: %v", q.newest)
		}
	})
}
