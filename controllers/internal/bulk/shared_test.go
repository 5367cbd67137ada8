package bulk

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// LXCStatus implements proxmox.GuestReader.
func (f *fakeNodes) LXCStatus(ctx context.Context, _ string, vmid int) (proxmox.LXCStatus, error) {
	if err := f.enter(ctx, "status"); err != nil {
		return proxmox.LXCStatus{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	row := f.guests[vmid].row
	row.VMID = proxmox.Int(vmid)
	return row, nil
}

// Many who ask for guests of a node at the same time get them from a list; one that the list
// lacks is asked for itself.
func TestStatusesAreAskedForTogether(t *testing.T) {
	const guests = 40
	watch(t, guests, func(o *observed) {
		o.change(func(f *fakeNodes) { clear(f.asked); f.slow = 50 * time.Millisecond; f.guests[102].hidden = true })
		var all sync.WaitGroup
		for i := range guests {
			all.Go(func() {
				vmid := 100 + i
				s, err := o.view().LXCStatus(o.Context(), []string{"a", "b"}[i%2], vmid)
				if err != nil || int(s.VMID) != vmid || int(s.PID) != 1000+i {
					t.Errorf("guest %d: %+v, %v", vmid, s, err)
				}
			})
		}
		all.Wait()
		n := o.nodes.count()
		if n["status"] > 2*fewAlone+1 || n["status"] == 0 || n["list a"]+n["list b"] > 6 {
			t.Errorf("asked: %v", n)
		}
		time.Sleep(crowdFor)
		if one, err := o.view().LXCStatus(o.Context(), "a", 100); err != nil || int(one.VMID) != 100 || o.nodes.count()["status"] != n["status"]+1 {
			t.Errorf("one alone: %v, %v, asked %v", one, err, o.nodes.count())
		}
	})
}
