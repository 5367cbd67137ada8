package progress

import (
	"context"
	"time"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Change is what Run is fed with: an object as it is now (nil: gone), or a notice.
type Change struct {
	Key    resource.Key
	Object resource.Object
	Notice string
}

// Display shows a board.
type Display interface {
	// Changed is called after an item's stage or outcome changed.
	Changed(b *Board, item *Item, now time.Time)
	// Tick is called every Interval, 0: never.
	Tick(b *Board, now time.Time)
	Interval() time.Duration
	// Notice shows a line that is about no item.
	Notice(text string)
	// Finish is called once at the end.
	Finish(b *Board, now time.Time)
}

// Run shows the board until every item is done (nil), changes is closed (nil) or the
// context ends (its cause).
func Run(ctx context.Context, b *Board, changes <-chan Change, d Display) error {
	defer func() { d.Finish(b, time.Now()) }()
	var tick <-chan time.Time
	if every := d.Interval(); every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	left := len(b.Pending())
	for left > 0 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-tick:
			d.Tick(b, now)
		case c, ok := <-changes:
			if !ok {
				return nil
			}
			left += apply(b, c, d)
		}
	}
	return nil
}

// apply takes in one change and returns by how much the number of pending items changed.
func apply(b *Board, c Change, d Display) int {
	if c.Notice != "" {
		d.Notice(c.Notice)
		return 0
	}
	before := Item{}
	if known := b.byKey[c.Key]; known != nil {
		before = *known
	}
	now := time.Now()
	item := b.Observe(c.Key, c.Object, now)
	if item == nil {
		return 0
	}
	if before.Stage != item.Stage || before.Done != item.Done || before.Lost != item.Lost {
		d.Changed(b, item, now)
	}
	switch {
	case item.Done && !before.Done:
		return -1
	case !item.Done && before.Done:
		return 1
	}
	return 0
}
