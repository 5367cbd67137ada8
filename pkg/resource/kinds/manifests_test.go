package kinds

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// TestManifests: what the repository shows to users is valid, and names real kinds.
func TestManifests(t *testing.T) {
	reg := Registry()
	quickstart, _ := filepath.Glob("../../../manifests/quickstart/*.yaml")
	examples, _ := filepath.Glob("../../../manifests/examples/*.yaml")
	if len(quickstart) != 4 || len(examples) < 3 {
		t.Fatalf("found %d and %d manifests", len(quickstart), len(examples))
	}
	files := append(quickstart, examples...)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			docs, err := resource.DecodeDocuments(reg, filepath.Base(file), data)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range docs {
				k, _ := reg.Get(d.Object.GetKind())
				if k.Namespaced && d.Object.GetMetadata().GetNamespace() == "" {
					t.Errorf("%s names no namespace", resource.KeyOf(d.Object))
				}
				if k.Default != nil {
					k.Default(d.Object)
				}
				if errs := d.Place(k.Check(d.Object)); len(errs) > 0 {
					t.Error(errs)
				}
			}
		})
	}
}
