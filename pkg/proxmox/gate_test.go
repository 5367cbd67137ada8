package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
)

func TestConcurrencyIsBounded(t *testing.T) {
	var now, most, writes, mostWrites atomic.Int32
	release := make(chan struct{})
	raise := func(n, top *atomic.Int32) {
		v := n.Add(1)
		for {
			if old := top.Load(); v <= old || top.CompareAndSwap(old, v) {
				return
			}
		}
	}
	arrived := make(chan struct{}, 100)
	s := newServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		raise(&now, &most)
		defer now.Add(-1)
		if r.Method == http.MethodPost {
			raise(&writes, &mostWrites)
			defer writes.Add(-1)
		}
		arrived <- struct{}{}
		<-release
		if r.Method == http.MethodPost {
			answer(w, someUPID)
			return
		}
		answer(w, LXCStatus{})
	})
	cfg := s.config()
	cfg.Concurrency = 5
	c := newClient(t, cfg)
	done := make(chan error, 40)
	for i := range 40 {
		go func() {
			var err error
			if i%4 == 0 {
				_, err = c.LXCStatus(t.Context(), "other", 200)
			} else {
				_, err = c.StartLXC(t.Context(), "pve", 200)
			}
			done <- err
		}()
	}
	for range cfg.Concurrency {
		<-arrived
	}
	close(release)
	for range 40 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if most.Load() != 5 || mostWrites.Load() > perNodeWrites {
		t.Errorf("%d at once with %d writes to one node, want 5 with at most %d", most.Load(), mostWrites.Load(), perNodeWrites)
	}
}

func TestWaitingForAPlaceEndsWithContext(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{})
	s := newServer(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		answer(w, Version{})
	})
	cfg := s.config()
	cfg.Concurrency = 1
	c := newClient(t, cfg)
	first := make(chan error, 1)
	go func() { _, err := c.Version(t.Context()); first <- err }()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.StartLXC(ctx, "pve", 200)
	if !errors.Is(err, context.Canceled) || IsUnknownOutcome(err) {
		t.Errorf("want cancelled with nothing sent, got %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// Writes that sit in a lock of the server leave room for reads of the same node.
func TestReadsGetPastSlowWrites(t *testing.T) {
	release := make(chan struct{})
	writes := make(chan struct{}, 100)
	s := newServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			writes <- struct{}{}
			<-release
			answer(w, someUPID)
			return
		}
		answer(w, LXCStatus{})
	})
	c := newClient(t, s.config())
	const wanted = 2 * perNode
	done := make(chan error, wanted)
	for range wanted {
		go func() { _, err := c.StartLXC(t.Context(), "pve", 200); done <- err }()
	}
	for range perNodeWrites {
		<-writes
	}
	if _, err := c.LXCStatus(t.Context(), "pve", 200); err != nil {
		t.Error(err)
	}
	if n := len(writes); n != 0 {
		t.Errorf("%d writes at once, want %d", perNodeWrites+n, perNodeWrites)
	}
	close(release)
	for range wanted {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// The table of nodes does not grow without end.
func TestGatesAreBounded(t *testing.T) {
	g := newGate(bounds{calls: 1, nodeCalls: perNode, nodeWrites: perNodeWrites})
	for i := range 2 * maxGates {
		leave, err := g.enter(t.Context(), fmt.Sprint("node", i), true)
		if err != nil {
			t.Fatal(err)
		}
		leave()
	}
	if len(g.nodes) > maxGates+1 {
		t.Errorf("%d gates", len(g.nodes))
	}
}
