package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// taskNode is a transport whose every POST starts a task that runs for a while.
type taskNode struct {
	runs time.Duration
	// refused POSTs start nothing.
	refused bool

	mu      sync.Mutex
	started map[string]time.Time
	most    int
	polls   int
}

func (n *taskNode) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.Method == http.MethodPost {
		if n.refused {
			return response(500, "CT 200 already exists on node 'pve'", nil), nil
		}
		if n.started == nil {
			n.started = map[string]time.Time{}
		}
		upid := fmt.Sprintf("UPID:pve:%08X:00056DC6:6B04067D:vzcreate:200:proximity@pve!svc:", len(n.started)+1)
		n.started[upid] = time.Now()
		n.most = max(n.most, n.running())
		return ok(upid), nil
	}
	n.polls++
	upid := strings.Split(strings.TrimPrefix(r.URL.Path, "/api2/json/nodes/pve/tasks/"), "/")[0]
	at, known := n.started[upid]
	switch {
	case !known:
		return response(400, "Parameter verification failed.", []byte(`{"errors":{"upid":"no such task"}}`)), nil
	case time.Since(at) < n.runs:
		return ok(map[string]any{"status": "running"}), nil
	}
	return ok(map[string]any{"status": "stopped", "exitstatus": "OK"}), nil
}

func (n *taskNode) running() (count int) {
	for _, at := range n.started {
		if time.Since(at) < n.runs {
			count++
		}
	}
	return count
}

func createOn(ctx context.Context, c *Client, storage string) error {
	_, err := c.CreateLXC(ctx, "pve", LXCCreate{VMID: 200, Template: "local:vztmpl/x", RootFS: NewVolume(storage, 1)})
	return err
}

func TestTasksPerStorageAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &taskNode{runs: 3 * time.Second}
		c := newClient(t, Config{Endpoints: []string{"https://pve:8006"}, TokenID: "a@pve!t", TokenSecret: "s", Transport: n})
		begin := time.Now()
		const creates = 12
		errs := make(chan error, creates)
		for range creates {
			go func() { errs <- createOn(t.Context(), c, "local-lvm") }()
		}
		for range creates {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if n.most != perStorage {
			t.Errorf("%d tasks at once, want %d", n.most, perStorage)
		}
		// Three batches of four; the last is only begun.
		if took := time.Since(begin); took < 6*time.Second || took > 9*time.Second {
			t.Errorf("took %v", took)
		}
		if err := createOn(t.Context(), c, "other"); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 9*time.Second {
			t.Errorf("another storage had to wait: %v", took)
		}
	})
}

func TestWaitingForAStorageEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &taskNode{runs: 24 * time.Hour}
		c := newClient(t, Config{Endpoints: []string{"https://pve:8006"}, TokenID: "a@pve!t", TokenSecret: "s", Transport: n})
		for range perStorage {
			if err := createOn(t.Context(), c, "local-lvm"); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		err := createOn(t.Context(), c, "local-lvm")
		if !IsUnavailable(err) || IsUnknownOutcome(err) || time.Since(begin) != storageWait {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(1234*time.Millisecond, cancel)
		begin = time.Now()
		if err := createOn(ctx, c, "local-lvm"); !errors.Is(err, context.Canceled) || time.Since(begin) != 1234*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		if len(n.started) != perStorage {
			t.Errorf("%d creates were sent, want %d", len(n.started), perStorage)
		}
		time.Sleep(storageHold)
		if err := createOn(t.Context(), c, "local-lvm"); err != nil {
			t.Errorf("a task that nobody saw end counts for ever: %v", err)
		}
	})
}

// A refused request holds no place, and neither does a task whose end somebody saw.
func TestPlacesOnAStorageAreGivenBack(t *testing.T) {
	n := &taskNode{refused: true}
	c := newClient(t, Config{Endpoints: []string{"https://pve:8006"}, TokenID: "a@pve!t", TokenSecret: "s", Transport: n})
	for range 3 * perStorage {
		if err := createOn(t.Context(), c, "local-lvm"); !IsVMIDTaken(err) {
			t.Fatal(err)
		}
	}
	if len(c.storages.tasks) != 0 || n.polls != 0 {
		t.Errorf("%d storages are held, %d polls", len(c.storages.tasks), n.polls)
	}
	n.refused = false
	upid, err := c.CreateLXC(t.Context(), "pve", LXCCreate{VMID: 200, Template: "x:y", RootFS: NewVolume("local-lvm", 1)})
	if err != nil || len(c.storages.tasks) != 1 {
		t.Fatalf("%v, %d storages are held", err, len(c.storages.tasks))
	}
	if _, err := c.WaitTask(t.Context(), "pve", upid); err != nil || len(c.storages.tasks) != 0 {
		t.Errorf("%v, %d storages are held", err, len(c.storages.tasks))
	}
}
