package cluster

import (
	"log/slog"
	"sync"
	"testing"
)

// TestCopiedWhileClosing is about the race detector: whoever puts another API in front of a
// connection copies it, also while the connection is being replaced and so closed.
func TestCopiedWhileClosing(t *testing.T) {
	d := Dialer{Installation: "00000000-0000-4000-8000-000000000000", Log: slog.New(slog.DiscardHandler)}
	c, err := d.Dial("default", Settings{Endpoints: []string{"https://127.0.0.1:1"}, TokenID: "a@pve!b", TokenSecret: "c", Access: Access{Mode: AccessConsole}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		outer := *c
		_ = outer.Close()
	})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestClosedLastFirstAndOnce(t *testing.T) {
	var order []int
	c := Connection{ends: &ends{}}
	for i := range 3 {
		c.ends.later(func() error { order = append(order, i); return nil })
	}
	_, _ = c.Close(), c.Close()
	if len(order) != 3 || order[0] != 2 || order[2] != 0 {
		t.Errorf("closed in the order %v", order)
	}
	if err := (&Connection{}).Close(); err != nil {
		t.Error(err)
	}
}
