package runtime

import (
	"sync"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// firstLook tells when every object that was there at the start has been looked at once.
// Before that the stored conditions speak of the time before the daemon started.
type firstLook struct {
	mu      sync.Mutex
	pending map[resource.Key]bool
	all     bool // the list of objects is whole
	done    chan struct{}
}

func newFirstLook() *firstLook {
	return &firstLook{pending: map[resource.Key]bool{}, done: make(chan struct{})}
}

// expect adds an object, as long as the list is not whole.
func (f *firstLook) expect(key resource.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.all {
		f.pending[key] = true
	}
}

// listed says that all objects have been named.
func (f *firstLook) listed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.all {
		f.all = true
		f.settle()
	}
}

// looked says that an object was reconciled with a finding, or is gone.
func (f *firstLook) looked(key resource.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending[key] {
		delete(f.pending, key)
		f.settle()
	}
}

// settle is called with the lock held, after a change that may have been the last.
func (f *firstLook) settle() {
	if f.all && len(f.pending) == 0 {
		close(f.done)
	}
}
