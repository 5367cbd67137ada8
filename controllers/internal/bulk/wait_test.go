package bulk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

func upidOf(n int) proxmox.UPID {
	u, err := proxmox.ParseUPID(fmt.Sprintf("UPID:a:%08X:%08X:65000000:vzstart:%d:root@pam:", n, n, 100+n))
	if err != nil {
		panic(err)
	}
	return u
}

// untilIn asks for a task that runs until ends after begin, and then has ended so.
func untilIn(begin time.Time, ends time.Duration, exit string) asker {
	return func(context.Context) (proxmox.TaskStatus, error) {
		if time.Since(begin) < ends {
			return proxmox.TaskStatus{Status: "running"}, nil
		}
		return proxmox.TaskStatus{Status: "stopped", Exit: exit}, nil
	}
}

// Many who wait for tasks of one node are told by one list at a time, each when its own task
// runs no more. Without lists all ask alone.
func TestWaitingTogether(t *testing.T) {
	for _, broken := range []bool{false, true} {
		t.Run(fmt.Sprintf("broken %v", broken), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var w waits
				var mu sync.Mutex
				lists, begin := 0, time.Now()
				list := func(context.Context) (rows []proxmox.TaskListEntry, err error) {
					mu.Lock()
					defer mu.Unlock()
					lists++
					for n := range 40 { // each ends 0.1 s after the one before
						if time.Since(begin) < time.Duration(n+1)*100*time.Millisecond {
							rows = append(rows, proxmox.TaskListEntry{UPID: upidOf(n)})
						}
					}
					if broken {
						err = errors.New("no list")
					}
					return rows, err
				}
				var all sync.WaitGroup
				for n := range 40 {
					time.Sleep(time.Millisecond)
					all.Go(func() {
						ends := time.Duration(n+1) * 100 * time.Millisecond
						w.until(t.Context(), "a", upidOf(n), list, untilIn(begin, ends, "OK"))
						waited := time.Since(begin)
						if !broken && (waited < ends || waited > ends+2*waitEvery) {
							t.Errorf("task %d ends after %s, and was asked for after %s", n, ends, waited)
						}
					})
				}
				all.Wait()
				if most := 30; lists > most || lists == 0 {
					t.Errorf("%d lists", lists)
				}
				if n := w.nodes["a"]; len(n.all) != 0 || n.stop != nil {
					t.Errorf("left: %+v", n)
				}
			})
		})
	}
}

// Who gives up waiting leaves nothing behind.
func TestWaitingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w waits
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		var all sync.WaitGroup
		for n := range 5 {
			all.Go(func() {
				w.until(ctx, "a", upidOf(n), func(context.Context) ([]proxmox.TaskListEntry, error) {
					var rows []proxmox.TaskListEntry
					for n := range 5 {
						rows = append(rows, proxmox.TaskListEntry{UPID: upidOf(n)})
					}
					return rows, nil
				}, untilIn(time.Now(), time.Hour, "OK"))
			})
		}
		all.Wait()
		if n := w.nodes["a"]; len(n.all) != 0 || n.stop != nil {
			t.Errorf("left: %+v", n)
		}
	})
}

// What shows that a task ended well ends the waiting; one that ended otherwise is asked for
// itself.
func TestEndsThatAListShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w waits
		begin, exits := time.Now(), []string{"OK", "command failed", "OK", "WARNINGS: 1", "command failed", ""}
		list := func(context.Context) (rows []proxmox.TaskListEntry, err error) {
			for n := range 6 {
				row := proxmox.TaskListEntry{UPID: upidOf(n)}
				if time.Since(begin) >= time.Second {
					row.End, row.Status = 1, exits[n]
				}
				rows = append(rows, row)
			}
			return rows, nil
		}
		var all sync.WaitGroup
		for n := range 6 {
			time.Sleep(time.Millisecond)
			all.Go(func() {
				done := w.until(t.Context(), "a", upidOf(n), list, untilIn(begin, time.Second, exits[n]))
				if done != (exits[n] == "OK") || time.Since(begin) < time.Second {
					t.Errorf("task %d: done %v after %s", n, done, time.Since(begin))
				}
			})
		}
		all.Wait()
	})
}

// Those who come all the time keep nobody from being told.
func TestOthersKeepComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w waits
		var all sync.WaitGroup
		first := time.Now()
		for n := range 400 {
			all.Go(func() {
				begin := time.Now()
				list := func(context.Context) (rows []proxmox.TaskListEntry, err error) {
					for n := range 400 { // each began 10 ms after the one before, and takes 100 ms
						row := proxmox.TaskListEntry{UPID: upidOf(n)}
						if time.Since(first) >= time.Duration(10*n+100)*time.Millisecond {
							row.End, row.Status = 1, "OK"
						}
						rows = append(rows, row)
					}
					return rows, nil
				}
				done := w.until(t.Context(), "a", upidOf(n), list, untilIn(begin, 100*time.Millisecond, "OK"))
				if took := time.Since(begin); !done || took > 2*waitEvery {
					t.Errorf("task %d: done %v, told after %s", n, done, took)
				}
			})
			time.Sleep(10 * time.Millisecond)
		}
		all.Wait()
	})
}

// Nobody asks before a task of its type may have ended, and then soon.
func TestTasksThatTakeAsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w waits
		lists, asked := 0, atomic.Int32{}
		round := func(tasks int) (took time.Duration) {
			begin := time.Now()
			ends := untilIn(begin, 2200*time.Millisecond, "OK")
			list := func(context.Context) (rows []proxmox.TaskListEntry, err error) {
				lists++
				for n := range tasks {
					row := proxmox.TaskListEntry{UPID: upidOf(n)}
					if time.Since(begin) >= 2200*time.Millisecond {
						row.End, row.Status = 1, "OK"
					}
					rows = append(rows, row)
				}
				return rows, nil
			}
			var all sync.WaitGroup
			for n := range tasks {
				all.Go(func() {
					done := w.until(t.Context(), "a", upidOf(n), list, func(ctx context.Context) (proxmox.TaskStatus, error) { asked.Add(1); return ends(ctx) })
					if !done {
						t.Errorf("task %d is not known to have ended well", n)
					}
				})
			}
			all.Wait()
			return time.Since(begin)
		}
		first := round(10)
		lists = 0
		if second := round(10); second > first || second > 2300*time.Millisecond || lists > 10 {
			t.Errorf("took %s, then %s with %d lists", first, second, lists)
		}
		round(10)
		for _, tasks := range []int{10, 1} { // now it is known well
			lists = 0
			asked.Store(0)
			if took := round(tasks); took > 2250*time.Millisecond || lists > 8 || asked.Load() > 8 {
				t.Errorf("%d tasks took %s, with %d lists and %d questions", tasks, took, lists, asked.Load())
			}
		}
	})
}
