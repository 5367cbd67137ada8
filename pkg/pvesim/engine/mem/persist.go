package mem

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// flushDelay is how long a change by a background program may stay unsaved.
const flushDelay = time.Second

// snapshotFormat is raised when snapshot changes in a way that old readers misread.
const snapshotFormat = 1

// snapshot is one guest on disk.
type snapshot struct {
	Format int
	Spec   engine.Guest
	Nodes  map[string]*node
	Snaps  map[string]tree
	Grafts []graft // volumes that were mounted; their files are among the nodes
}

// saver keeps at most one delayed write per guest.
type saver struct {
	mu        sync.Mutex // held while writing
	saved     uint64     // FS version on disk
	destroyed bool

	timerMu sync.Mutex
	pending bool
}

func (g *Guest) snapshotPath() string {
	return filepath.Join(g.eng.cfg.Dir, strconv.Itoa(g.vmid)+".guest")
}

// changed is called after each change of the file system.
func (g *Guest) changed() {
	if g.eng.cfg.Dir == "" {
		return
	}
	g.saver.timerMu.Lock()
	defer g.saver.timerMu.Unlock()
	if g.saver.pending {
		return
	}
	g.saver.pending = true
	time.AfterFunc(flushDelay, func() {
		g.saver.timerMu.Lock()
		g.saver.pending = false
		g.saver.timerMu.Unlock()
		g.saveOrLog()
	})
}

func (g *Guest) saveOrLog() {
	if err := g.save(); err != nil {
		g.eng.log.Warn("guest snapshot not written", "vmid", g.vmid, "error", err)
	}
}

// saveNow writes the snapshot although no file changed.
func (g *Guest) saveNow() error {
	_ = g.fs.change(func() error { return nil })
	return g.save()
}

// save writes the snapshot if something changed since the last one.
func (g *Guest) save() error {
	if g.eng.cfg.Dir == "" {
		return nil
	}
	if _, registered := g.eng.Guest(g.vmid); !registered {
		return nil
	}
	g.saver.mu.Lock()
	defer g.saver.mu.Unlock()
	g.fs.mu.RLock()
	version := g.fs.version
	nodes := maps.Clone(g.fs.nodes) // nodes are immutable, so a shallow copy is a snapshot
	g.fs.mu.RUnlock()
	if version == g.saver.saved || g.saver.destroyed {
		return nil
	}
	var buf bytes.Buffer
	s := snapshot{Format: snapshotFormat, Nodes: nodes}
	g.mu.Lock()
	s.Spec, s.Snaps = g.spec, maps.Clone(g.snaps)
	g.mu.Unlock()
	g.eng.volMu.Lock()
	s.Grafts = slices.Clone(g.grafts)
	g.eng.volMu.Unlock()
	if err := gob.NewEncoder(&buf).Encode(s); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if err := writeFileAtomic(g.snapshotPath(), buf.Bytes()); err != nil {
		return err
	}
	g.saver.saved = version
	return nil
}

func (g *Guest) removeSnapshot() error {
	if g.eng.cfg.Dir == "" {
		return nil
	}
	g.saver.mu.Lock()
	defer g.saver.mu.Unlock()
	g.saver.destroyed = true // a delayed save must not bring it back
	if err := os.Remove(g.snapshotPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove guest %d: %w", g.vmid, err)
	}
	return nil
}

// load reads every snapshot of the directory. One that cannot be read is an error: a
// node that forgets a disk is worse than one that does not start.
func (e *Engine) load() error {
	if err := os.MkdirAll(e.cfg.Dir, 0o700); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(e.cfg.Dir, "*.guest"))
	if err != nil {
		return err
	}
	for _, name := range names {
		vmid, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(name), ".guest"))
		if err != nil {
			continue // not ours
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var s snapshot
		if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(&s); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if s.Format != snapshotFormat {
			return fmt.Errorf("%s: snapshot format %d, this program reads %d", name, s.Format, snapshotFormat)
		}
		s.Spec.VMID = vmid
		g := newGuest(e, s.Spec)
		g.fs.nodes = s.Nodes
		for _, n := range s.Nodes {
			g.fs.size += int64(len(n.Data))
		}
		g.snaps, g.grafts = s.Snaps, s.Grafts
		e.guests[vmid] = g
		g.unmount() // the process died with the guest running
	}
	return nil
}

// writeFileAtomic replaces a file so that a crash leaves the old or the new one.
func writeFileAtomic(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails harmlessly after the rename
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
