package bulk

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// Whatever happens to a guest, its object is woken within a period and nobody relies on what
// was seen before; the others sleep on.
func TestWhatChangesIsNoticed(t *testing.T) {
	one := func(f *fakeNodes) *fakeGuest { return f.guests[102] }
	for name, happen := range map[string]func(f *fakeNodes){
		"stopped":          func(f *fakeNodes) { one(f).row.Status, one(f).row.PID = "stopped", 0 },
		"restarted":        func(f *fakeNodes) { one(f).row.PID = 9 },
		"locked":           func(f *fakeNodes) { one(f).row.Lock = "backup" },
		"tags":             func(f *fakeNodes) { one(f).row.Tags = "" },
		"name":             func(f *fakeNodes) { one(f).row.Name = "other" },
		"memory":           func(f *fakeNodes) { one(f).row.MaxMem = 1 },
		"swap":             func(f *fakeNodes) { one(f).row.MaxSwap = 1 },
		"cores":            func(f *fakeNodes) { one(f).row.CPUs = 1 },
		"made a template":  func(f *fakeNodes) { one(f).row.Template = true },
		"migrated":         func(f *fakeNodes) { one(f).node = "b" },
		"missing in lists": func(f *fakeNodes) { one(f).hidden = true },
		"now a machine":    func(f *fakeNodes) { one(f).emulated = true },
		"copied": func(f *fakeNodes) {
			f.guests[777] = &fakeGuest{node: "a", row: proxmox.LXCStatus{Tags: one(f).row.Tags}}
		},
		"task ended":    func(f *fakeNodes) { f.ended("a", "vzrollback", 102, 1) },
		"configuration": func(f *fakeNodes) { one(f).digest = "d2" },
		"address":       func(f *fakeNodes) { one(f).address = "10.0.0.6/24" },
	} {
		t.Run(name, func(t *testing.T) {
			watch(t, 8, func(o *observed) {
				o.change(func(f *fakeNodes) { happen(f) })
				patience := period
				if name == "task ended" {
					patience *= tasksEvery
				}
				time.Sleep(patience)
				if got := o.wokenUp(); !slices.Equal(got, []string{"102"}) {
					t.Errorf("woken: %v", got)
				}
				_, addresses := o.guest(102).Addresses()
				if o.relied(102) || addresses {
					t.Error("what was seen before is still relied upon")
				}
				if !o.relied(104) || !o.relied(103) {
					t.Error("others are not relied upon any more")
				}
			})
		})
	}
}

// After a change the next direct look is relied upon again, once, and nobody is woken twice.
func TestAfterAChange(t *testing.T) {
	watch(t, 2, func(o *observed) {
		o.change(func(f *fakeNodes) { f.guests[100].row.PID = 9 })
		time.Sleep(period)
		o.directLook(100)
		time.Sleep(10 * period)
		if !o.relied(100) || len(o.woken) != 1 {
			t.Errorf("relied upon: %v, woken %v", o.relied(100), o.woken)
		}
	})
}

// A direct look that began before a list showed the change may have missed it.
func TestLookBeforeTheList(t *testing.T) {
	watch(t, 2, func(o *observed) {
		o.change(func(f *fakeNodes) { f.guests[100].row.MaxMem = 1 })
		began := time.Now()
		time.Sleep(period)
		o.guest(100).Saw(began, "a", "d1", proxmox.LXCStatus{Status: "running"}, 100)
		if o.relied(100) {
			t.Error("it is relied upon")
		}
		o.guest(100).Saw(time.Now().Add(time.Millisecond), "a", "d1", proxmox.LXCStatus{Status: "stopped"}, 100)
		if o.relied(100) {
			t.Error("relied upon though the list says that it runs")
		}
	})
}

// Our own changes are not relied upon before a list that was begun after them.
func TestOwnChanges(t *testing.T) {
	api := reflect.TypeFor[*View]()
	for _, role := range []reflect.Type{reflect.TypeFor[proxmox.GuestWriter](), reflect.TypeFor[proxmox.PowerController]()} {
		for i := range role.NumMethod() {
			name := role.Method(i).Name
			t.Run(name, func(t *testing.T) {
				watch(t, 2, func(o *observed) {
					method, _ := api.MethodByName(name)
					args := []reflect.Value{reflect.ValueOf(o.view()), reflect.ValueOf(o.Context()), reflect.ValueOf("a")}
					for j := len(args); j < method.Type.NumIn(); j++ {
						arg := reflect.New(method.Type.In(j)).Elem()
						switch {
						case arg.Kind() == reflect.Int:
							arg.SetInt(100)
						case arg.Type() == reflect.TypeFor[proxmox.LXCCreate]():
							arg.Set(reflect.ValueOf(proxmox.LXCCreate{VMID: 100}))
						}
						args = append(args, arg)
					}
					func() {
						defer func() { _ = recover() }() // the nodes here cannot do it
						method.Func.Call(args)
					}()
					time.Sleep(time.Millisecond)
					o.directLook(100)
					if o.relied(100) {
						t.Error("relied upon before a list")
					}
					time.Sleep(period)
					o.directLook(100)
					if !o.relied(100) || !o.relied(101) {
						t.Error("not relied upon after a list")
					}
				})
			})
		}
	}
}

// What one has waited for needs no further look; what others did does.
func TestTasks(t *testing.T) {
	watch(t, 2, func(o *observed) {
		var upid proxmox.UPID
		o.change(func(f *fakeNodes) { upid = f.ended("a", "resize", 100, 1) })
		if _, err := o.view().WaitTask(o.Context(), "a", upid); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		o.directLook(100)
		time.Sleep(tasksEvery * period)
		if !o.relied(100) || len(o.woken) != 0 {
			t.Errorf("relied upon: %v, woken %v", o.relied(100), o.woken)
		}
		o.change(func(f *fakeNodes) {
			for i := range taskRows + 1 { // more than a list shows
				f.ended("a", "vzdump", 555, 100+i)
			}
		})
		time.Sleep(tasksEvery * period)
		if got := o.wokenUp(); !slices.Equal(got, []string{"100"}) {
			t.Errorf("after more tasks than are listed: %v", got)
		}
	})
}

// A node that goes away is a reason to look, and so is its return; one that does not answer
// ends what is relied upon, on it and on no other.
func TestNodeAway(t *testing.T) {
	watch(t, 2, func(o *observed) {
		o.change(func(f *fakeNodes) { f.offline["a"] = true })
		time.Sleep(period)
		if got := o.wokenUp(); !slices.Equal(got, []string{"100"}) || o.relied(100) || !o.relied(101) {
			t.Errorf("woken %v", got)
		}
		o.change(func(f *fakeNodes) { f.offline["a"] = false; f.fail["list a"] = true })
		time.Sleep(period)
		o.directLook(100)
		time.Sleep(staleAfter * period)
		if o.relied(100) || !o.relied(101) {
			t.Error("a node that does not answer is relied upon, or the other is not")
		}
	})
}

// Without answers nothing is relied upon for long.
func TestNothingAnswers(t *testing.T) {
	watch(t, 2, func(o *observed) {
		o.change(func(f *fakeNodes) { f.fail["resources"] = true })
		time.Sleep(period)
		if !o.relied(100) {
			t.Error("one failure ends it all")
		}
		time.Sleep(staleAfter * period)
		if o.relied(100) {
			t.Error("relied upon for too long")
		}
		o.change(func(f *fakeNodes) { clear(f.fail) })
		time.Sleep(period)
		if !o.relied(100) || len(o.woken) != 0 {
			t.Errorf("afterwards: relied upon %v, woken %v", o.relied(100), o.woken)
		}
	})
}

// What was seen is of one object and of one connection.
func TestSeenBySomebodyElse(t *testing.T) {
	watch(t, 1, func(o *observed) {
		if _, ok := o.view().Guest(keyOf(555), 100).Recall(); ok {
			t.Error("another object relies on it")
		}
		o.conn = &cluster.Connection{Name: "default", API: o.nodes}
		if o.relied(100) {
			t.Error("it is relied upon over another connection")
		}
		if v := o.view(); o.obs.Of(v.Connection()) != v {
			t.Error("a view of a view")
		}
	})
}

// A minute without changes costs exactly what the package says.
func TestCostOfNothing(t *testing.T) {
	for _, guests := range []int{1, 500, 10_000} {
		t.Run(fmt.Sprint(guests), func(t *testing.T) {
			watch(t, guests, func(o *observed) {
				time.Sleep(auditAll / 100)
				before := o.nodes.count()
				const looks = int(time.Minute / period)
				time.Sleep(time.Minute)
				nodes := min(2, guests)
				want := map[string]int{"resources": looks, "list a": looks, "tasks a": looks / tasksEvery, "list b": looks * (nodes - 1), "tasks b": looks / tasksEvery * (nodes - 1),
					"config": looks * AuditBudget(guests, period), "interfaces": looks * AuditBudget(guests, period)}
				for what, n := range o.nodes.count() {
					if got := n - before[what]; got != want[what] {
						t.Errorf("%s: %d times, want %d", what, got, want[what])
					}
				}
				if len(o.woken) != 0 {
					t.Errorf("woken: %v", o.woken)
				}
			})
		})
	}
}

func TestAuditBudget(t *testing.T) {
	for n, want := range map[int]int{0: 0, 5: 5, 12: 12, 500: 12, 4320: 12, 4321: 13, 10_000: 28} {
		if got := AuditBudget(n, period); got != want {
			t.Errorf("of %d guests %d are audited, want %d", n, got, want)
		}
	}
}

// All who ask at once share a list, and nobody gets one that was asked for earlier.
func TestListsAreShared(t *testing.T) {
	watch(t, 1, func(o *observed) {
		o.change(func(f *fakeNodes) { f.slow = time.Second; f.fail["list a"] = true })
		time.Sleep(period / 4)
		before := o.nodes.count()["resources"]
		var asking sync.WaitGroup
		for range 50 {
			asking.Go(func() {
				if rows, err := o.view().ClusterResources(o.Context(), proxmox.GuestResources); err != nil || len(rows) < 3 {
					t.Errorf("%d rows, %v", len(rows), err)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		o.change(func(f *fakeNodes) { f.guests[777] = &fakeGuest{node: "a"} })
		asking.Go(func() {
			if rows, err := o.view().ClusterResources(o.Context(), proxmox.GuestResources); err != nil || len(rows) != 4 {
				t.Errorf("who asks later gets %d rows, %v", len(rows), err)
			}
		})
		asking.Wait()
		if got := o.nodes.count()["resources"] - before; got > 3 {
			t.Errorf("%d requests for 51 questions", got)
		}
	})
}

// started is what becomes of a guest that we start.
func (o *observed) started(vmid int, err error) {
	_ = o.view().changing(vmid, func() error {
		o.change(func(f *fakeNodes) { f.guests[vmid].row.PID = 77 })
		return err
	})
	time.Sleep(time.Millisecond)
	o.directLook(vmid)
}

// A direct look after a change of ours holds at once, and goes on when the next list bears it
// out, which wakes nobody.
func TestDirectLookHolds(t *testing.T) {
	watch(t, 2, func(o *observed) {
		o.started(100, nil)
		if _, ok := o.guest(100).Addresses(); !o.relied(100) || !ok {
			t.Error("not relied upon before a list")
		}
		time.Sleep(10 * period)
		if !o.relied(100) || len(o.wokenUp()) != 0 {
			t.Errorf("relied upon: %v, woken %v", o.relied(100), o.wokenUp())
		}
	})
}

// It does not when a list says something else, when there is none, or when it is not known what
// came of the change: that may come later.
func TestDirectLookDoesNotHold(t *testing.T) {
	watch(t, 2, func(o *observed) {
		o.started(100, nil)
		o.change(func(f *fakeNodes) { f.guests[100].row.PID = 78 })
		time.Sleep(period)
		if o.relied(100) || len(o.wokenUp()) != 1 {
			t.Errorf("another process: relied upon %v, woken %v", o.relied(100), o.wokenUp())
		}
	})
	watch(t, 2, func(o *observed) {
		o.change(func(f *fakeNodes) { f.fail["list a"] = true })
		o.started(100, nil)
		time.Sleep(freshFor*period + time.Second)
		if o.relied(100) {
			t.Error("relied upon without a list")
		}
	})
	watch(t, 2, func(o *observed) {
		o.started(100, errAway)
		if o.relied(100) {
			t.Error("relied upon though the change may still come")
		}
		time.Sleep(period)
		o.directLook(100)
		if !o.relied(100) {
			t.Error("not relied upon after a list and a look")
		}
	})
}
