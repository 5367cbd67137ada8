package bulk

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// BenchmarkCheck is the check of guests of which none has changed: one look, and the question
// of each object. What the wire costs is not in it (hack/bench has the list over TLS).
func BenchmarkCheck(b *testing.B) {
	for _, guests := range []int{500, 10_000} {
		b.Run(fmt.Sprint(guests), func(b *testing.B) {
			f := &fakeNodes{asked: map[string]int{}, guests: map[int]*fakeGuest{}, offline: map[string]bool{}, tasks: map[string][]proxmox.TaskListEntry{}, fail: map[string]bool{}}
			v := newView(&cluster.Connection{Name: "default", API: f}, slog.New(slog.DiscardHandler), period, func(resource.Key) {})
			for i := range guests {
				f.guests[i] = &fakeGuest{node: []string{"a", "b"}[i%2], digest: "d1", row: proxmox.LXCStatus{Status: "running", PID: proxmox.Int(1000 + i), Tags: fmt.Sprintf("proximity;prx-%016d", i)}}
				v.Guest(keyOf(i), i)
			}
			woken := 0
			look := func() { v.begin(false); v.look(context.Background(), func(resource.Key) { woken++ }) }
			look()
			time.Sleep(time.Millisecond)
			for i := range guests {
				v.Guest(keyOf(i), i).Saw(time.Now(), f.guests[i].node, "d1", f.guests[i].row, i)
			}
			clear(f.asked)
			b.ResetTimer()
			for range b.N {
				look()
				for i := range guests {
					if _, ok := v.Guest(keyOf(i), i).Recall(); !ok {
						b.Fatalf("guest %d is not relied upon", i)
					}
				}
			}
			requests := 0
			for _, n := range f.asked {
				requests += n
			}
			b.ReportMetric(float64(requests)/float64(b.N), "requests/op")
			if woken > 0 {
				b.Errorf("%d woken", woken)
			}
		})
	}
}
