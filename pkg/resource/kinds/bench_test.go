package kinds

import (
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource"
)

func BenchmarkRegistry(b *testing.B) {
	for b.Loop() {
		Registry()
	}
}

func BenchmarkCheckApp(b *testing.B) {
	reg := Registry()
	k, _ := reg.Get("App")
	obj, err := resource.DecodeJSON(reg, []byte("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: web, namespace: default}\n"+valid["App"]))
	if err != nil {
		b.Fatal(err)
	}
	k.Default(obj)
	for _, part := range []struct {
		name  string
		check func(resource.Object) resource.FieldErrors
	}{{"all", k.Check}, {"rules", k.CheckRules}} {
		b.Run(part.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if errs := part.check(obj); len(errs) > 0 {
					b.Fatal(errs)
				}
			}
		})
	}
}
