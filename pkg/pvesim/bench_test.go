package pvesim

import (
	"context"
	"fmt"
	"testing"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// BenchmarkResources is the one request from which the drift of all guests is seen.
func BenchmarkResources(b *testing.B) {
	for _, guests := range []int{100, 2000} {
		b.Run(fmt.Sprint(guests), func(b *testing.B) {
			e, err := mem.New(mem.Config{})
			if err != nil {
				b.Fatal(err)
			}
			n, err := New(Config{Dir: b.TempDir(), Engine: e})
			if err != nil {
				b.Fatal(err)
			}
			defer n.Close()
			for vmid := range guests {
				if err := n.guests.claim(n, 100+vmid); err != nil {
					b.Fatal(err)
				}
			}
			c := &call{node: n, ctx: context.Background(), who: identity{id: "root@pam"}, params: map[string]string{"type": "vm"}}
			for b.Loop() {
				if res, err := clusterResources(c); err != nil || len(res.data.([]any)) != guests {
					b.Fatal(err)
				}
			}
		})
	}
}
