package mem

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// root is the guest's own root file system, without the volumes that are mounted.
func (g *Guest) root() tree {
	g.eng.volMu.Lock()
	defer g.eng.volMu.Unlock()
	t := g.fs.below("/")
	for _, gr := range g.grafts {
		maps.DeleteFunc(t, func(name string, _ *node) bool { return within(name, gr.Path) })
		maps.Copy(t, gr.Hidden)
	}
	return t
}

// Snapshot implements engine.Engine.
func (e *Engine) Snapshot(_ context.Context, vmid int, volumes []string, name string) error {
	g, err := e.lookup(vmid)
	if err != nil {
		return err
	}
	t := g.root()
	g.mu.Lock()
	if g.snaps == nil {
		g.snaps = map[string]tree{}
	}
	g.snaps[name] = t
	g.mu.Unlock()
	e.volMu.Lock()
	for _, v := range volumes {
		e.volumeOf(v).Snaps[name] = e.content(v)
		e.saveVolumeOrLog(v, e.volumes[v])
	}
	e.volMu.Unlock()
	return g.saveNow()
}

// Rollback implements engine.Engine.
func (e *Engine) Rollback(_ context.Context, vmid int, volumes []string, name string) error {
	g, err := e.lookup(vmid)
	if err != nil {
		return err
	}
	t, err := g.state(name)
	if err != nil {
		return err
	}
	g.fs.replace(t)
	e.volMu.Lock()
	for _, v := range volumes {
		if snap, ok := e.volumeOf(v).Snaps[name]; ok {
			e.volumes[v].Nodes = maps.Clone(snap)
			e.saveVolumeOrLog(v, e.volumes[v])
		}
	}
	e.volMu.Unlock()
	return g.saveNow()
}

// DropSnapshot implements engine.Engine.
func (e *Engine) DropSnapshot(_ context.Context, vmid int, volumes []string, name string) error {
	g, err := e.lookup(vmid)
	if err != nil {
		return err
	}
	g.mu.Lock()
	delete(g.snaps, name)
	g.mu.Unlock()
	e.volMu.Lock()
	for _, v := range volumes {
		delete(e.volumeOf(v).Snaps, name)
		e.saveVolumeOrLog(v, e.volumes[v])
	}
	e.volMu.Unlock()
	return g.saveNow()
}

// state is a copy of the root file system as it is, or as a snapshot kept it.
func (g *Guest) state(snapshot string) (tree, error) {
	if snapshot == "" {
		return g.root(), nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	t, ok := g.snaps[snapshot]
	if !ok {
		return nil, fmt.Errorf("guest %d has no snapshot %s: %w", g.vmid, snapshot, fs.ErrNotExist)
	}
	return maps.Clone(t), nil
}

// replace makes the file system hold exactly this.
func (f *FS) replace(t tree) {
	_ = f.change(func() error { // never fails
		f.nodes = t
		f.recount()
		return nil
	})
}

// Clone implements engine.Engine.
func (e *Engine) Clone(_ context.Context, from int, snapshot string, spec engine.Guest) error {
	source, err := e.lookup(from)
	if err != nil {
		return err
	}
	t, err := source.state(snapshot)
	if err != nil {
		return err
	}
	return e.adopt(spec, t)
}

// adopt registers a new guest with these files.
func (e *Engine) adopt(spec engine.Guest, t tree) error {
	g := newGuest(e, spec)
	g.fs.replace(t)
	setupGuest(g.fs, spec)
	e.mu.Lock()
	if _, exists := e.guests[spec.VMID]; exists {
		e.mu.Unlock()
		return fmt.Errorf("guest %d exists already", spec.VMID)
	}
	e.guests[spec.VMID] = g
	e.mu.Unlock()
	if err := g.save(); err != nil {
		e.mu.Lock()
		delete(e.guests, spec.VMID)
		e.mu.Unlock()
		return fmt.Errorf("save guest %d: %w", spec.VMID, err)
	}
	return nil
}

// Dump implements engine.Engine.
func (e *Engine) Dump(_ context.Context, vmid int, w io.Writer) error {
	g, err := e.lookup(vmid)
	if err != nil {
		return err
	}
	return g.root().write(w)
}

// Restore implements engine.Engine.
func (e *Engine) Restore(ctx context.Context, spec engine.Guest, r io.Reader) error {
	t, err := readTree(ctx, r)
	if err != nil {
		return fmt.Errorf("restore guest %d: %w", spec.VMID, err)
	}
	return e.adopt(spec, t)
}

// DumpVolume implements engine.Engine.
func (e *Engine) DumpVolume(_ context.Context, name string, _ bool, w io.Writer) error {
	e.volMu.Lock()
	t := e.content(name)
	e.volMu.Unlock()
	return t.write(w)
}

// RestoreVolume implements engine.Engine.
func (e *Engine) RestoreVolume(ctx context.Context, name string, _ bool, r io.Reader) error {
	t, err := readTree(ctx, r)
	if err != nil {
		return fmt.Errorf("restore volume %s: %w", name, err)
	}
	e.volMu.Lock()
	defer e.volMu.Unlock()
	e.volumeOf(name).Nodes = t
	return e.saveVolume(name, e.volumes[name])
}

// write makes an archive, in the order of names.
func (t tree) write(w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(t)) {
		n := t[name]
		h := &tar.Header{Name: "." + name, Mode: int64(n.Mode.Perm()), ModTime: n.ModTime, Typeflag: tar.TypeReg, Size: int64(len(n.Data))}
		switch {
		case n.Mode.IsDir():
			h.Typeflag = tar.TypeDir
			h.Name = strings.TrimSuffix(h.Name, "/") + "/"
		case n.Mode&fs.ModeSymlink != 0:
			h.Typeflag, h.Linkname = tar.TypeSymlink, n.Target
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(n.Data); err != nil && h.Typeflag == tar.TypeReg {
			return err
		}
	}
	return tw.Close()
}

// readTree reads an archive; what is neither directory, file nor link is left out, as by
// a tar that may not make devices.
func readTree(ctx context.Context, r io.Reader) (tree, error) {
	t := tree{"/": {Mode: fs.ModeDir | 0o755, ModTime: time.Now()}}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if len(t) >= maxFiles || h.Size > maxFileBytes {
			return nil, errNoSpace
		}
		name := clean(h.Name)
		n := &node{Mode: fs.FileMode(h.Mode).Perm(), ModTime: h.ModTime}
		switch h.Typeflag {
		case tar.TypeDir:
			n.Mode |= fs.ModeDir
		case tar.TypeSymlink:
			n.Mode, n.Target = fs.ModeSymlink|0o777, h.Linkname
		case tar.TypeReg:
			if n.Data, err = io.ReadAll(tr); err != nil {
				return nil, err
			}
		default:
			continue
		}
		t[name] = n
		for dir := path.Dir(name); t[dir] == nil; dir = path.Dir(dir) {
			t[dir] = &node{Mode: fs.ModeDir | 0o755, ModTime: h.ModTime}
		}
	}
}
