package bulk

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
	inside "github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// leaseFile is an appliance that can tell its leases.
type leaseFile struct {
	mu   sync.Mutex
	text string
	err  error
	read int
}

func (l *leaseFile) Run(_ context.Context, t inside.Target, c inside.Command) (inside.Result, error) {
	time.Sleep(10 * time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.read++; t.VMID != 9999 || strings.Join(c.Argv, " ") != "cat "+appliance.LeasesPath {
		return inside.Result{}, fmt.Errorf("run %v in %v", c.Argv, t)
	}
	return inside.Result{Stdout: []byte(l.text)}, l.err
}

func macOf(n int) string { return fmt.Sprintf("BC:24:11:00:00:%02X", n) }

// Many guests that were made just now are told of by one look at their appliance's leases.
func TestFirstAddresses(t *testing.T) {
	watch(t, 20, func(o *observed) {
		file := &leaseFile{}
		o.conn.Guests = file
		for n := range 19 { // the last one has none yet
			file.text += fmt.Sprintf("1700000000 %s 10.20.0.%d app *\n", strings.ToLower(macOf(n)), n+1)
		}
		from := inside.Target{Node: "a", VMID: 9999}
		ask := func() (leased int) {
			before := o.nodes.count()["interfaces"]
			var mu sync.Mutex
			var all sync.WaitGroup
			for n := range 20 {
				all.Go(func() {
					begin := time.Now()
					list, byLease, err := o.guest(100+n).FirstAddresses(o.Context(), "a", macOf(n), from)
					if err != nil {
						o.Errorf("guest %d: %v", n, err)
					}
					mu.Lock()
					defer mu.Unlock()
					if !byLease {
						return
					}
					if leased++; n == 19 && len(list) != 0 || n < 19 && (len(list) != 1 || list[0].Inet != fmt.Sprintf("10.20.0.%d/32", n+1)) {
						o.Errorf("guest %d: %v", n, list)
					}
					if n < 19 {
						o.guest(100+n).SawLeases(begin, list)
					}
				})
			}
			all.Wait()
			if direct := o.nodes.count()["interfaces"] - before; direct != 20-leased {
				o.Errorf("%d were asked and %d told of by leases", direct, leased)
			}
			return leased
		}
		o.change(func(f *fakeNodes) { f.slow = time.Millisecond })
		if leased := ask(); leased != 0 || file.read != 0 {
			o.Errorf("%d are told of by leases, and their last start was long ago", leased)
		}
		for n := range 20 {
			o.view().settle(100+n, false)
		}
		if leased := ask(); leased < 20-fewAlone || file.read > 2 {
			o.Errorf("%d are told of by leases, in %d reads", leased, file.read)
		}
		file.err = inside.ErrUnreachable
		if leased := ask(); leased != 0 {
			o.Errorf("%d are told of by leases that cannot be read", leased)
		}
	})
}

// The audit asks the guest itself whether it has the address that was leased to it.
func TestAuditOfALease(t *testing.T) {
	for _, good := range []bool{true, false} {
		watch(t, 3, func(o *observed) {
			o.change(func(f *fakeNodes) {
				f.guests[100].address = map[bool]string{true: "10.0.0.5/24", false: "10.0.0.6/24"}[good]
			})
			o.directLook(100)
			o.guest(100).SawLeases(time.Now(), []proxmox.GuestInterface{{HWAddr: macOf(1), Inet: "10.0.0.5/32"}})
			time.Sleep(3 * period)
			list, ok := o.guest(100).Addresses()
			if ok != good || good && list[0].Inet != "10.0.0.5/24" || (len(o.wokenUp()) == 0) != good {
				o.Errorf("the guest has it %v: known %v %v, woken %v", good, list, ok, o.wokenUp())
			}
		})
	}
}
