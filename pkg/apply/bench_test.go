package apply_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

func benchDocument(b *testing.B, version int) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"app","namespace":"default","labels":{"app.kubernetes.io/name":"nginx","tier":"web"}},`+
		`"spec":{"hostname":"app","state":"Running","suspend":true,"source":{"template":"debian-12-standard"},"resources":{"cores":1,"memory":"256Mi","disk":"2Gi"},`+
		`"packages":["nginx","curl","ca-certificates"],"ports":[{"name":"http","port":80}],"files":[{"path":"/etc/motd","content":%q},{"path":"/etc/nginx/conf.d/app.conf","content":%q}],`+
		`"env":[{"name":"VERSION","value":"%d"},{"name":"MODE","value":"production"}]}}`,
		strings.Repeat("welcome ", 40), strings.Repeat("# as it was ", 20), version)
}

// BenchmarkApply is the cost of one document, without the wire and the disk.
//
//	go test -run '^$' -bench "Apply$" -benchmem ./pkg/apply
func BenchmarkApply(b *testing.B) {
	reg := kinds.Registry()
	decode := func(version int) resource.Document {
		docs, err := resource.DecodeDocuments(reg, "", benchDocument(b, version))
		if err != nil {
			b.Fatal(err)
		}
		return docs[0]
	}
	b.Run("decode", func(b *testing.B) {
		for i := range b.N {
			decode(i)
		}
	})
	for name, next := range map[string]func(int) int{"changed": func(i int) int { return i + 1 }, "unchanged": func(int) int { return 0 }} {
		b.Run(name, func(b *testing.B) {
			st := memory.New(reg)
			defer st.Close()
			a := apply.New(st, reg)
			if err := a.EnsureNamespaces(context.Background()); err != nil {
				b.Fatal(err)
			}
			write := func(doc resource.Document) {
				if _, err := a.ApplySet(context.Background(), []resource.Document{doc}, apply.Options{Manager: "bench"}); err != nil {
					b.Fatal(err)
				}
			}
			write(decode(0))
			docs := make([]resource.Document, 64)
			for i := range docs {
				docs[i] = decode(next(i))
			}
			b.ResetTimer()
			for i := range b.N {
				write(docs[i%len(docs)])
			}
		})
	}
}
