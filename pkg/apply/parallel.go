package apply

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// parallelFrom is from how many items on others help: waking them costs as much as a few.
const parallelFrom = 8

// inParallel calls do for 0 to n-1, on all processors when n is large. A panic of do is
// raised in the caller's goroutine, like one without others.
func inParallel(n int, do func(i int)) {
	if n < parallelFrom {
		for i := range n {
			do(i)
		}
		return
	}
	const chunk = 4
	var (
		next     atomic.Int64
		wg       sync.WaitGroup
		panicked atomic.Pointer[any]
	)
	for range min(runtime.GOMAXPROCS(0), n/chunk) {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					panicked.CompareAndSwap(nil, &p)
				}
			}()
			for panicked.Load() == nil {
				end := int(next.Add(chunk))
				for i := end - chunk; i < min(end, n); i++ {
					do(i)
				}
				if end >= n {
					return
				}
			}
		})
	}
	wg.Wait()
	if p := panicked.Load(); p != nil {
		panic(*p)
	}
}
