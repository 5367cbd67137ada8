package bulk

import (
	"context"
	"errors"
	"fmt"
	"sync"
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

// Many who wait for tasks of one node are told by one list at a time, each when its own task
// runs no more; two wait alone. Without lists all ask alone.
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
					alone := n < waitAlone
					all.Go(func() {
						_, leave := w.until(t.Context(), "a", upidOf(n), list)
						waited, ends := time.Since(begin), time.Duration(n+1)*100*time.Millisecond
						if !alone && !broken && (waited < ends || waited > ends+2*waitEvery) {
							t.Errorf("task %d ends after %s, and was asked for after %s", n, ends, waited)
						}
						time.Sleep(ends)
						leave()
					})
				}
				all.Wait()
				if most := 20; lists > most || lists == 0 {
					t.Errorf("%d lists", lists)
				}
				if n := w.nodes["a"]; n.alone != 0 || len(n.together) != 0 || n.stop != nil {
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
				_, leave := w.until(ctx, "a", upidOf(n), func(context.Context) ([]proxmox.TaskListEntry, error) {
					var rows []proxmox.TaskListEntry
					for n := range 5 {
						rows = append(rows, proxmox.TaskListEntry{UPID: upidOf(n)})
					}
					return rows, nil
				})
				leave()
			})
		}
		all.Wait()
		if n := w.nodes["a"]; len(n.together) != 0 || n.stop != nil {
			t.Errorf("left: %+v", n)
		}
	})
}

// A list that shows that a task ended well ends the waiting; one that ended otherwise is asked
// for itself.
func TestEndsThatAListShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w waits
		begin := time.Now()
		list := func(context.Context) (rows []proxmox.TaskListEntry, err error) {
			for n := range 6 {
				row := proxmox.TaskListEntry{UPID: upidOf(n)}
				if time.Since(begin) >= time.Second {
					row.End, row.Status = 1, map[int]string{2: "OK", 3: "WARNINGS: 1", 4: "command failed", 5: ""}[n]
				}
				rows = append(rows, row)
			}
			return rows, nil
		}
		var all sync.WaitGroup
		for n := range 6 {
			time.Sleep(time.Millisecond)
			all.Go(func() {
				done, leave := w.until(t.Context(), "a", upidOf(n), list)
				if done != (n == 2) {
					t.Errorf("task %d: done %v", n, done)
				}
				if n < waitAlone {
					time.Sleep(time.Second)
				}
				leave()
			})
		}
		all.Wait()
	})
}

// Nobody asks before a task of its type may have ended, and then soon.
func TestTasksThatTakeAsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w waits
		lists := 0
		round := func() (took time.Duration) {
			begin := time.Now()
			list := func(context.Context) (rows []proxmox.TaskListEntry, err error) {
				lists++
				for n := range 10 {
					row := proxmox.TaskListEntry{UPID: upidOf(n)}
					if time.Since(begin) >= 2200*time.Millisecond {
						row.End, row.Status = 1, "OK"
					}
					rows = append(rows, row)
				}
				return rows, nil
			}
			var all sync.WaitGroup
			for n := range 10 {
				all.Go(func() {
					done, leave := w.until(t.Context(), "a", upidOf(n), list)
					if !done {
						time.Sleep(time.Until(begin.Add(2200 * time.Millisecond)))
					}
					leave()
				})
			}
			all.Wait()
			return time.Since(begin)
		}
		first := round()
		lists = 0
		if second := round(); second > first || second > 2350*time.Millisecond || lists > 8 {
			t.Errorf("took %s, then %s with %d lists", first, second, lists)
		}
	})
}
