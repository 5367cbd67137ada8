package bulk

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

func (f *fakeNodes) StartLXC(ctx context.Context, _ string, _ int) (proxmox.UPID, error) {
	return proxmox.UPID{}, f.change(ctx, "start")
}

func (f *fakeNodes) UpdateLXC(ctx context.Context, _ string, _ int, _ proxmox.LXCUpdate) error {
	return f.change(ctx, "update")
}

func (f *fakeNodes) change(ctx context.Context, what string) error {
	if !f.able {
		panic("these nodes can change nothing")
	}
	return f.enter(ctx, what)
}

// What a guest was made with is taken for granted until something speaks against it, and nothing
// does that ours has done to start it.
func TestWhatItWasMadeWithIsTakenForGranted(t *testing.T) {
	const vmid = 100
	start := func(o *observed) error {
		_, err := o.view().StartLXC(o.Context(), "a", vmid)
		return err
	}
	for name, tc := range map[string]struct {
		then func(o *observed)
		ok   bool
	}{
		"nothing": {func(*observed) {}, true},
		"ours starts it": {func(o *observed) {
			if err := start(o); err != nil {
				o.Error(err)
			}
			if _, err := o.view().WaitTask(o.Context(), "a", proxmox.UPID{Node: "a", Type: "vzstart", ID: "100"}); err != nil {
				o.Error(err)
			}
		}, true},
		"a look shows that it runs": {func(o *observed) {
			o.view().touch(vmid)
			o.change(func(f *fakeNodes) { f.guests[vmid].row.PID++ })
			time.Sleep(period)
			o.view().settle(vmid, false)
		}, true},
		"its start fails": {func(o *observed) {
			o.change(func(f *fakeNodes) { f.fail["start"] = true })
			if err := start(o); !errors.Is(err, errAway) {
				o.Error(err)
			}
			o.view().settle(vmid, false)
		}, false},
		"ours changes it": {func(o *observed) {
			if err := o.view().UpdateLXC(o.Context(), "a", vmid, proxmox.LXCUpdate{}); err != nil {
				o.Error(err)
			}
		}, false},
		"somebody stops it": {func(o *observed) {
			o.change(func(f *fakeNodes) { f.guests[vmid].row.Status = "stopped" })
			time.Sleep(period)
		}, false},
		"a list lacks it": {func(o *observed) {
			o.change(func(f *fakeNodes) { f.guests[vmid].hidden = true })
			time.Sleep(period)
		}, false},
		"there is a copy": {func(o *observed) {
			o.change(func(f *fakeNodes) { c := *f.guests[vmid]; f.guests[500] = &c })
			time.Sleep(period)
		}, false},
		"somebody's task ends": {func(o *observed) {
			o.change(func(f *fakeNodes) { f.ended("a", "vzsnapshot", vmid, 7) })
			time.Sleep((tasksEvery + 1) * period)
		}, false},
		"a direct look": {func(o *observed) { o.directLook(vmid) }, false},
		"time":          {func(*observed) { time.Sleep(takenFor + time.Second) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			watch(t, 3, func(o *observed) {
				o.change(func(f *fakeNodes) { f.able = true })
				o.guest(vmid).Made("it")
				other := o.view().Guest(keyOf(101), vmid)
				if _, ok := other.AsMade(); ok {
					o.Error("it is taken for another object's")
				}
				tc.then(o)
				if made, ok := o.guest(vmid).AsMade(); ok != tc.ok || ok && made != "it" {
					o.Errorf("made with %v, %v", made, ok)
				}
			})
		})
	}
}

// The audit reads the configuration of a guest that was taken for what it was made with. What is
// accepted is kept with its digest; anything else wakes who relied on it.
func TestAuditOfWhatWasMade(t *testing.T) {
	const vmid = 100
	for _, good := range []bool{true, false} {
		watch(t, 3, func(o *observed) {
			o.mu.Lock()
			o.woken = nil
			o.mu.Unlock()
			asked := 0
			g := o.nodes.guests[vmid]
			o.guest(vmid).SawAsMade(time.Now(), "a", g.row, "taken", func(c proxmox.LXCConfig) (any, bool) {
				if asked++; c.Digest != "d1" {
					o.Errorf("asked about %+v", c)
				}
				return "read", good
			})
			if seen, ok := o.guest(vmid).Recall(); !ok || seen != "taken" {
				o.Errorf("recalled %v, %v", seen, ok)
			}
			time.Sleep(3 * period)
			seen, ok := o.guest(vmid).Recall()
			if asked != 1 || ok != good || good && seen != "read" || (len(o.wokenUp()) == 0) != good {
				o.Errorf("accepted %v: asked %d times, recalled %v %v, woken %v", good, asked, seen, ok, o.wokenUp())
			}
			if !good {
				return
			}
			o.change(func(f *fakeNodes) { f.guests[vmid].digest = "d2" })
			time.Sleep(2 * period)
			if _, ok := o.guest(vmid).Recall(); ok || len(o.wokenUp()) != 1 {
				o.Errorf("the digest changed, and it is relied upon: woken %v", o.wokenUp())
			}
		})
	}
}

// A guest is untouched until something is tried, however that ends.
func TestUntouched(t *testing.T) {
	watch(t, 2, func(o *observed) {
		o.change(func(f *fakeNodes) { f.able, f.fail["start"] = true, true })
		if !o.guest(100).Untouched() {
			o.Error("nothing was tried")
		}
		if _, err := o.view().StartLXC(o.Context(), "a", 100); err == nil {
			o.Error("started")
		}
		if o.guest(100).Untouched() || !o.guest(101).Untouched() {
			o.Error("it is not noted what was tried on which guest")
		}
	})
}
