package mem

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// tree is the content of a file system by absolute path. Nodes are immutable, so a copy
// of the map is a copy of the files.
type tree map[string]*node

// volume is a data volume. While a guest that runs has it mounted its files are in the
// guest's file system, and Nodes is what they were at the mount.
type volume struct {
	Nodes tree
	Snaps map[string]tree
}

func newVolume() *volume {
	return &volume{Nodes: tree{"/": {Mode: fs.ModeDir | 0o755, ModTime: time.Now()}}, Snaps: map[string]tree{}}
}

// graft is a volume that is mounted in a guest.
type graft struct {
	Volume string
	Path   string
	Hidden tree // what the mount covers, by its path in the guest
}

// volumeOf returns a volume, which is made on first use; the caller holds volMu.
func (e *Engine) volumeOf(name string) *volume {
	v := e.volumes[name]
	if v == nil {
		v = newVolume()
		e.volumes[name] = v
	}
	return v
}

// mount grafts volumes that are not mounted yet into the guest's file system; others of
// the guest stay.
func (g *Guest) mount(mounts []engine.Mount) {
	g.eng.volMu.Lock()
	defer g.eng.volMu.Unlock()
	for _, m := range mounts {
		if g.grafted(m.Volume) {
			continue
		}
		gr := graft{Volume: m.Volume, Path: clean(m.Path)}
		v := g.eng.volumeOf(m.Volume)
		_ = g.fs.change(func() error { // a full guest lacks the directory, as a real one would
			gr.Hidden = g.fs.cut(gr.Path)
			if err := g.fs.mkdirAll(path.Dir(gr.Path), 0o755); err != nil {
				return err
			}
			g.fs.paste(gr.Path, v.Nodes)
			return nil
		})
		g.grafts = append(g.grafts, gr)
	}
}

func (g *Guest) grafted(volume string) bool {
	for _, gr := range g.grafts {
		if gr.Volume == volume {
			return true
		}
	}
	return false
}

// unmount takes all volumes out again and keeps what was written.
func (g *Guest) unmount() {
	g.eng.volMu.Lock()
	defer g.eng.volMu.Unlock()
	for i := len(g.grafts) - 1; i >= 0; i-- {
		gr := g.grafts[i]
		v := g.eng.volumeOf(gr.Volume)
		_ = g.fs.change(func() error { // never fails
			v.Nodes = relative(gr.Path, g.fs.cut(gr.Path))
			maps.Copy(g.fs.nodes, gr.Hidden)
			g.fs.recount()
			return nil
		})
		g.eng.saveVolumeOrLog(gr.Volume, v)
	}
	g.grafts = nil
}

// content is what a volume holds now, also while it is mounted; the caller holds volMu.
func (e *Engine) content(name string) tree {
	for _, g := range e.Guests() {
		for _, gr := range g.grafts {
			if gr.Volume == name {
				return relative(gr.Path, g.fs.below(gr.Path))
			}
		}
	}
	return maps.Clone(e.volumeOf(name).Nodes)
}

// cut removes everything at and below a path and returns it; the caller holds the lock.
func (f *FS) cut(p string) tree {
	out := tree{}
	for name, n := range f.nodes {
		if within(name, p) {
			out[name] = n
			delete(f.nodes, name)
		}
	}
	f.recount()
	return out
}

// below returns everything at and below a path.
func (f *FS) below(p string) tree {
	f.mu.RLock()
	defer f.mu.RUnlock()
	out := tree{}
	for name, n := range f.nodes {
		if within(name, p) {
			out[name] = n
		}
	}
	return out
}

// paste adds a volume's files below a path; the caller holds the lock.
func (f *FS) paste(p string, t tree) {
	for name, n := range t {
		f.nodes[path.Join(p, name)] = n
	}
	f.recount()
}

// recount computes the size anew; the caller holds the lock.
func (f *FS) recount() {
	f.size = 0
	for _, n := range f.nodes {
		f.size += int64(len(n.Data))
	}
}

func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// relative renames what was below dir so that dir itself is /.
func relative(dir string, t tree) tree {
	out := newVolume().Nodes
	for name, n := range t {
		out[clean(strings.TrimPrefix(name, dir))] = n
	}
	return out
}

// CopyVolume implements engine.Engine.
func (e *Engine) CopyVolume(_ context.Context, from, snapshot, to string) error {
	e.volMu.Lock()
	defer e.volMu.Unlock()
	t := e.content(from)
	if snapshot != "" {
		snap, ok := e.volumeOf(from).Snaps[snapshot]
		if !ok {
			return fmt.Errorf("volume %s has no snapshot %s: %w", from, snapshot, fs.ErrNotExist)
		}
		t = maps.Clone(snap)
	}
	v := newVolume()
	v.Nodes = t
	e.volumes[to] = v
	return e.saveVolume(to, v)
}

// RenameVolume implements engine.Engine.
func (e *Engine) RenameVolume(_ context.Context, from, to string) error {
	e.volMu.Lock()
	defer e.volMu.Unlock()
	v := e.volumeOf(from)
	delete(e.volumes, from)
	e.volumes[to] = v
	return errors.Join(e.saveVolume(to, v), e.dropVolumeFile(from))
}

// RemoveVolume implements engine.Engine.
func (e *Engine) RemoveVolume(_ context.Context, name string) error {
	e.volMu.Lock()
	defer e.volMu.Unlock()
	delete(e.volumes, name)
	return e.dropVolumeFile(name)
}

// volumeSuffix marks the files of volumes in Config.Dir.
const volumeSuffix = ".volume"

func (e *Engine) volumePath(name string) string {
	return filepath.Join(e.cfg.Dir, url.PathEscape(name)+volumeSuffix)
}

func (e *Engine) saveVolume(name string, v *volume) error {
	if e.cfg.Dir == "" {
		return nil
	}
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(v); err != nil {
		return fmt.Errorf("encode volume %s: %w", name, err)
	}
	return writeFileAtomic(e.volumePath(name), buf.Bytes())
}

func (e *Engine) saveVolumeOrLog(name string, v *volume) {
	if err := e.saveVolume(name, v); err != nil {
		e.log.Warn("volume not written", "volume", name, "error", err)
	}
}

func (e *Engine) dropVolumeFile(name string) error {
	if e.cfg.Dir == "" {
		return nil
	}
	if err := os.Remove(e.volumePath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

// loadVolumes reads the volumes of Config.Dir.
func (e *Engine) loadVolumes() error {
	names, err := filepath.Glob(filepath.Join(e.cfg.Dir, "*"+volumeSuffix))
	if err != nil {
		return err
	}
	for _, file := range names {
		name, err := url.PathUnescape(strings.TrimSuffix(filepath.Base(file), volumeSuffix))
		if err != nil {
			continue // not ours
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		v := newVolume()
		if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(v); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		e.volumes[name] = v
	}
	return nil
}
