package runtime

import (
	"context"
	"time"
)

// Pause waits within a reconcile, for moments: nobody else has the worker meanwhile. It returns
// the context's error when that ends first.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
