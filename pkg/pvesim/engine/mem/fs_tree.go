package mem

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"
)

// Rename moves a file or a directory with everything below it. As rename(2) it
// replaces a file at the target in one step.
func (f *FS) Rename(from, to string) error {
	return f.change(func() error {
		src, n, err := f.get("rename", from, false)
		if err != nil {
			return err
		}
		dst, err := f.resolve(to, false)
		if err != nil {
			return pathErr("rename", to, err)
		}
		if src == dst {
			return nil
		}
		if src == "/" || strings.HasPrefix(dst, src+"/") {
			return pathErr("rename", to, errIntoSelf)
		}
		if err := f.parentIsDir("rename", dst); err != nil {
			return err
		}
		if old, ok := f.nodes[dst]; ok {
			switch {
			case old.Mode.IsDir() && (!n.Mode.IsDir() || f.hasChildren(dst)):
				return pathErr("rename", to, fs.ErrExist)
			case !old.Mode.IsDir() && n.Mode.IsDir():
				return pathErr("rename", to, errNotDir)
			}
			f.drop(dst)
		}
		f.moveTree(src, dst)
		return nil
	})
}

func (f *FS) drop(real string) {
	f.size -= int64(len(f.nodes[real].Data))
	delete(f.nodes, real)
}

func (f *FS) moveTree(src, dst string) {
	var names []string
	for name := range f.nodes {
		if name == src || strings.HasPrefix(name, src+"/") {
			names = append(names, name)
		}
	}
	for _, name := range names {
		f.nodes[dst+strings.TrimPrefix(name, src)] = f.nodes[name]
		delete(f.nodes, name)
	}
}

func (f *FS) hasChildren(dir string) bool {
	for name := range f.nodes {
		if name != dir && path.Dir(name) == dir {
			return true
		}
	}
	return false
}

// Remove removes a file or an empty directory.
func (f *FS) Remove(p string) error {
	return f.change(func() error {
		real, n, err := f.get("remove", p, false)
		if err != nil {
			return err
		}
		if real == "/" || n.Mode.IsDir() && f.hasChildren(real) {
			return pathErr("remove", p, errNotEmpty)
		}
		f.drop(real)
		return nil
	})
}

// RemoveAll removes the entry and everything below it; no error if there is none.
func (f *FS) RemoveAll(p string) error {
	err := f.change(func() error {
		real, _, err := f.get("remove", p, false)
		if err != nil {
			return err
		}
		for name := range f.nodes {
			if name != "/" && (name == real || strings.HasPrefix(name, strings.TrimSuffix(real, "/")+"/")) {
				f.drop(name)
			}
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Glob returns the paths that match a path.Match pattern, sorted.
func (f *FS) Glob(pattern string) ([]string, error) {
	pattern = clean(pattern)
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	var out []string
	for name := range f.nodes {
		if ok, _ := path.Match(pattern, name); ok {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return out, nil
}

// Untar unpacks a tar stream below dir, which must exist. Like tar -p it sets the
// modes of the archive, replaces files in one step each, and refuses members that
// lead outside dir. It stops at the first error; what was unpacked stays.
func (f *FS) Untar(r io.Reader, dir string) error {
	if info, err := f.Stat(dir); err != nil {
		return err
	} else if !info.IsDir() {
		return pathErr("chdir", dir, errNotDir)
	}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if err := f.untarMember(h, tr, dir); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func (f *FS) untarMember(h *tar.Header, r io.Reader, dir string) error {
	for _, part := range strings.Split(h.Name, "/") {
		if part == ".." {
			return errors.New("member name contains '..'")
		}
	}
	target := path.Join(dir, h.Name)
	mode := fs.FileMode(h.Mode) & fs.ModePerm
	switch h.Typeflag {
	case tar.TypeDir:
		return f.untarDir(target, dir, mode)
	case tar.TypeReg:
		data, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
		if err != nil {
			return err
		}
		return f.untarFile(target, data, mode, h.ModTime)
	case tar.TypeSymlink:
		if err := f.MkdirAll(path.Dir(target), 0o755); err != nil {
			return err
		}
		if err := f.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return f.Symlink(h.Linkname, target)
	default:
		return fmt.Errorf("member type %q is not supported", h.Typeflag)
	}
}

func (f *FS) untarDir(target, dir string, mode fs.FileMode) error {
	if err := f.MkdirAll(target, mode); err != nil {
		return err
	}
	if clean(target) == clean(dir) {
		return nil // the archive's "./" does not change the directory it goes to
	}
	return f.Chmod(target, mode)
}

func (f *FS) untarFile(target string, data []byte, mode fs.FileMode, modTime time.Time) error {
	return f.change(func() error {
		if err := f.mkdirAll(path.Dir(target), 0o755); err != nil {
			return err
		}
		// tar replaces a link, it does not write through it.
		if real, n, err := f.get("open", target, false); err == nil && n.Mode&fs.ModeSymlink != 0 {
			f.drop(real)
		}
		if err := f.write(target, data, mode, true); err != nil {
			return err
		}
		if modTime.Unix() > 0 {
			if _, n, err := f.get("open", target, true); err == nil {
				n.ModTime = modTime // just made above, nobody has seen it
			}
		}
		return nil
	})
}
