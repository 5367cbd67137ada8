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
						leave := w.until(t.Context(), "a", upidOf(n), list)
						waited, ends := time.Since(begin), time.Duration(n+1)*100*time.Millisecond
						if !alone && !broken && (waited < ends || waited > ends+2*waitEvery) {
							t.Errorf("task %d ends after %s, and was asked for after %s", n, ends, waited)
						}
						time.Sleep(ends)
						leave()
					})
				}
				all.Wait()
				if most := 9; lists > most || lists == 0 {
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
				w.until(ctx, "a", upidOf(n), func(context.Context) ([]proxmox.TaskListEntry, error) {
					var rows []proxmox.TaskListEntry
					for n := range 5 {
						rows = append(rows, proxmox.TaskListEntry{UPID: upidOf(n)})
					}
					return rows, nil
				})()
			})
		}
		all.Wait()
		if n := w.nodes["a"]; len(n.together) != 0 || n.stop != nil {
			t.Errorf("left: %+v", n)
		}
	})
}
