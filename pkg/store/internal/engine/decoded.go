package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Objects are kept encoded. All of a large store decoded is several times its bytes, and in
// pieces so small that the collector is busy with little else, so a decoded object is kept
// for two reasons only: it is one of those that were asked for last, or those who look at
// all objects of its kind do that again and again.

const (
	// recentObjects is the number of versions that are kept decoded because they were
	// written, watched or asked for by name last.
	recentObjects = 1024
	// scanBytes bounds the encoded size of a kind's versions that are kept decoded for
	// scans, and scanPause is how long after the last scan they are.
	scanBytes = 32 << 20
	scanPause = 10 * time.Second
)

// recent are the versions that were decoded last.
type recent struct {
	slots [recentObjects]atomic.Pointer[version]
	next  atomic.Uint64
}

// add takes a version in and lets go of the object of the one that has been there longest.
func (r *recent) add(v *version) {
	if old := r.slots[r.next.Add(1)%recentObjects].Swap(v); old != nil && old != v {
		old.decoded.Store(nil)
	}
}

// scans is what is remembered of those who look at all objects of a kind.
type scans struct {
	bytes atomic.Int64 // of the versions that are kept decoded

	mu      sync.Mutex
	sweep   *time.Timer // runs when nobody has looked for a while; nil: nothing is kept
	last    time.Time
	current func() *tree // the kind's objects; nil: nothing is ever kept
}

// scan is Object for those who look at a whole kind. They call scanned in the end.
func (v *version) scan() (resource.Object, error) {
	if o := v.decoded.Load(); o != nil {
		return *o, nil
	}
	o, err := v.decode()
	if err != nil {
		return nil, err
	}
	s := &v.layout.scans
	if s.bytes.Add(int64(len(v.encoded))) > scanBytes {
		return o, nil
	}
	return v.keep(o), nil
}

// scanned sees to it that what a scan has decoded is let go some time after the last one.
func (l *layout) scanned() {
	s := &l.scans
	if s.bytes.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = time.Now()
	if s.sweep == nil && s.current != nil {
		s.sweep = time.AfterFunc(scanPause, s.letGo)
	}
}

// letGo forgets the decoded objects if nobody has looked at them for long enough.
func (s *scans) letGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return // the engine was closed
	}
	if rest := scanPause - time.Since(s.last); rest > 0 {
		s.sweep.Reset(rest)
		return
	}
	s.sweep = nil
	s.bytes.Store(0)
	s.current().Ascend(func(v *version) bool {
		v.decoded.Store(nil)
		return true
	})
}

// watchScans says where the objects are that scans look at.
func (c *codec) watchScans(current func() *view) {
	for kind, l := range c.layouts {
		l.scans.mu.Lock()
		l.scans.current = func() *tree { return current().kinds[kind] }
		l.scans.mu.Unlock()
	}
}

// close ends what would go on by itself.
func (c *codec) close() {
	for _, l := range c.layouts {
		l.scans.mu.Lock()
		l.scans.current = nil
		if l.scans.sweep != nil {
			l.scans.sweep.Stop()
		}
		l.scans.mu.Unlock()
	}
}
