package appliance

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBoard()
		if _, _, ok := b.Get("edge"); ok {
			t.Fatal("an empty board has something")
		}
		var told []string
		cancel := b.Subscribe(func(name string) {
			_, _, _ = b.Get(name) // subscribers may use the board
			told = append(told, name)
		})
		b.Publish("edge", Observation{BootID: "1"})
		time.Sleep(3 * time.Second)
		if o, age, ok := b.Get("edge"); !ok || o.BootID != "1" || age != 3*time.Second {
			t.Errorf("got %q, age %s, %t", o.BootID, age, ok)
		}
		b.Publish("edge", Observation{BootID: "2"})
		if o, age, _ := b.Get("edge"); o.BootID != "2" || age != 0 {
			t.Errorf("after the second: %q, age %s", o.BootID, age)
		}
		b.Forget("edge")
		if _, _, ok := b.Get("edge"); ok {
			t.Error("forgotten, but there")
		}
		cancel()
		b.Publish("other", Observation{})
		if !slices.Equal(told, []string{"edge", "edge", "edge"}) {
			t.Errorf("the subscriber heard %q", told)
		}
	})
}

func TestBoardConcurrently(t *testing.T) {
	b := NewBoard()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				cancel := b.Subscribe(func(name string) { b.Get(name) })
				b.Publish("edge", Observation{})
				b.Get("edge")
				cancel()
			}
		})
	}
	wg.Wait()
	if _, _, ok := b.Get("edge"); !ok {
		t.Error("nothing was published")
	}
}
