package mem

import (
	"errors"
	"io/fs"
	"path"
	"sort"
	"strings"
	"sync"
	"time"
)

// Limits of one guest's file system: enough for an appliance with its binaries,
// little enough that a runaway test cannot eat the machine.
const (
	maxFileBytes = 256 << 20
	maxFiles     = 100_000
	maxLinks     = 16 // symbolic links followed in one look-up
)

// What a kernel says where package fs has no error for it.
var (
	errNotDir   = errors.New("not a directory")
	errIsDir    = errors.New("is a directory")
	errNotEmpty = errors.New("directory not empty")
	errNoSpace  = errors.New("no space left on device")
	errLoop     = errors.New("too many levels of symbolic links")
	errIntoSelf = errors.New("invalid argument")
)

// FileInfo describes one entry of an FS.
type FileInfo struct {
	Path    string
	Mode    fs.FileMode // permission bits, fs.ModeDir, fs.ModeSymlink
	Size    int64
	ModTime time.Time
	Target  string // of a symbolic link
}

// IsDir reports whether the entry is a directory.
func (i FileInfo) IsDir() bool { return i.Mode.IsDir() }

// FS is a guest's root file system. Paths are absolute (a relative one is taken from
// /); errors are *fs.PathError with fs.ErrNotExist and the like, as package os gives
// them. Content that was written is never changed in place: a reader keeps what it got.
type FS struct {
	mu      sync.RWMutex
	nodes   map[string]*node
	size    int64
	version uint64 // counts changes; snapshots compare it
	changed func() // called after each change, without the lock
}

// node is one entry. It is never changed, only replaced.
type node struct {
	Mode    fs.FileMode
	ModTime time.Time
	Data    []byte
	Target  string
}

func newFS(changed func()) *FS {
	f := &FS{nodes: map[string]*node{}, changed: changed}
	f.nodes["/"] = &node{Mode: fs.ModeDir | 0o755, ModTime: time.Now()}
	return f
}

func clean(p string) string { return path.Clean("/" + p) }

func pathErr(op, p string, err error) error { return &fs.PathError{Op: op, Path: p, Err: err} }

// resolve follows symbolic links in every element, the last one only if follow is
// set. The caller holds the lock. The last element need not exist.
func (f *FS) resolve(p string, follow bool) (string, error) {
	rest := strings.Split(strings.TrimPrefix(clean(p), "/"), "/")
	cur, links := "/", 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		if part == "" {
			continue
		}
		next := path.Join(cur, part)
		n, ok := f.nodes[next]
		last := len(rest) == 0
		switch {
		case ok && n.Mode&fs.ModeSymlink != 0 && (follow || !last):
			if links++; links > maxLinks {
				return "", errLoop
			}
			target := n.Target
			if !path.IsAbs(target) {
				target = path.Join(cur, target)
			}
			rest = append(strings.Split(strings.TrimPrefix(path.Clean(target), "/"), "/"), rest...)
			cur = "/"
		case !ok && !last:
			return "", fs.ErrNotExist
		case ok && !last && !n.Mode.IsDir():
			return "", errNotDir
		default:
			cur = next
		}
	}
	return cur, nil
}

func (f *FS) get(op, p string, follow bool) (string, *node, error) {
	real, err := f.resolve(p, follow)
	if err != nil {
		return "", nil, pathErr(op, p, err)
	}
	n, ok := f.nodes[real]
	if !ok {
		return "", nil, pathErr(op, p, fs.ErrNotExist)
	}
	return real, n, nil
}

// change runs fn with the write lock and reports the change afterwards.
func (f *FS) change(fn func() error) error {
	f.mu.Lock()
	err := fn()
	if err == nil {
		f.version++
	}
	f.mu.Unlock()
	if err == nil && f.changed != nil {
		f.changed()
	}
	return err
}

// ReadFile returns the content; the caller must not change it.
func (f *FS) ReadFile(p string) ([]byte, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	_, n, err := f.get("open", p, true)
	if err != nil {
		return nil, err
	}
	if n.Mode.IsDir() {
		return nil, pathErr("read", p, errIsDir)
	}
	return n.Data, nil
}

// WriteFile makes or replaces a file; the directory must exist. An existing file
// keeps its mode, as with os.WriteFile. The FS keeps data: do not change it afterwards.
func (f *FS) WriteFile(p string, data []byte, perm fs.FileMode) error {
	return f.change(func() error { return f.write(p, data, perm, false) })
}

func (f *FS) write(p string, data []byte, perm fs.FileMode, setMode bool) error {
	if len(data) > maxFileBytes {
		return pathErr("write", p, errNoSpace)
	}
	real, err := f.resolve(p, true)
	if err != nil {
		return pathErr("open", p, err)
	}
	if err := f.parentIsDir("open", real); err != nil {
		return err
	}
	mode := perm.Perm()
	if old, ok := f.nodes[real]; ok {
		if old.Mode.IsDir() {
			return pathErr("open", p, errIsDir)
		}
		if !setMode {
			mode = old.Mode
		}
		f.size -= int64(len(old.Data))
	} else if len(f.nodes) >= maxFiles {
		return pathErr("open", p, errNoSpace)
	}
	f.nodes[real] = &node{Mode: mode, ModTime: time.Now(), Data: data}
	f.size += int64(len(data))
	return nil
}

func (f *FS) parentIsDir(op, real string) error {
	parent, ok := f.nodes[path.Dir(real)]
	if !ok {
		return pathErr(op, real, fs.ErrNotExist)
	}
	if !parent.Mode.IsDir() {
		return pathErr(op, real, errNotDir)
	}
	return nil
}

// MkdirAll makes the directory and those above it; one that exists is no error.
func (f *FS) MkdirAll(p string, perm fs.FileMode) error {
	if i, err := f.Stat(p); err == nil && i.IsDir() {
		return nil
	}
	return f.change(func() error { return f.mkdirAll(p, perm) })
}

func (f *FS) mkdirAll(p string, perm fs.FileMode) error {
	p = clean(p)
	for i := 1; i <= len(p); i++ {
		if i < len(p) && p[i] != '/' {
			continue
		}
		real, err := f.resolve(p[:i], true)
		if err != nil {
			return pathErr("mkdir", p, err)
		}
		if n, ok := f.nodes[real]; ok {
			if !n.Mode.IsDir() {
				return pathErr("mkdir", p, errNotDir)
			}
			continue
		}
		if err := f.parentIsDir("mkdir", real); err != nil {
			return err
		}
		f.nodes[real] = &node{Mode: fs.ModeDir | perm.Perm(), ModTime: time.Now()}
	}
	return nil
}

// Mkdir makes one directory; its parent must exist.
func (f *FS) Mkdir(p string, perm fs.FileMode) error {
	return f.add("mkdir", p, &node{Mode: fs.ModeDir | perm.Perm(), ModTime: time.Now()})
}

// Symlink makes link point to target; link must not exist.
func (f *FS) Symlink(target, link string) error {
	return f.add("symlink", link, &node{Mode: fs.ModeSymlink | 0o777, ModTime: time.Now(), Target: target})
}

func (f *FS) add(op, p string, n *node) error {
	return f.change(func() error {
		real, err := f.resolve(p, false)
		if err != nil {
			return pathErr(op, p, err)
		}
		if _, ok := f.nodes[real]; ok {
			return pathErr(op, p, fs.ErrExist)
		}
		if err := f.parentIsDir(op, real); err != nil {
			return err
		}
		f.nodes[real] = n
		return nil
	})
}

// Chmod sets the permission bits.
func (f *FS) Chmod(p string, perm fs.FileMode) error {
	return f.change(func() error {
		real, n, err := f.get("chmod", p, true)
		if err != nil {
			return err
		}
		c := *n
		c.Mode = n.Mode&^fs.ModePerm | perm.Perm()
		f.nodes[real] = &c
		return nil
	})
}

// Stat describes a file, following symbolic links.
func (f *FS) Stat(p string) (FileInfo, error) { return f.stat(p, true) }

// Lstat describes the entry itself.
func (f *FS) Lstat(p string) (FileInfo, error) { return f.stat(p, false) }

func (f *FS) stat(p string, follow bool) (FileInfo, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	real, n, err := f.get("stat", p, follow)
	if err != nil {
		return FileInfo{}, err
	}
	return info(real, n), nil
}

func info(p string, n *node) FileInfo {
	return FileInfo{Path: p, Mode: n.Mode, Size: int64(len(n.Data)), ModTime: n.ModTime, Target: n.Target}
}

// Exists reports whether the path leads to something.
func (f *FS) Exists(p string) bool {
	_, err := f.Stat(p)
	return err == nil
}

// ReadDir lists a directory, sorted by name.
func (f *FS) ReadDir(p string) ([]FileInfo, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	real, n, err := f.get("open", p, true)
	if err != nil {
		return nil, err
	}
	if !n.Mode.IsDir() {
		return nil, pathErr("readdir", p, errNotDir)
	}
	var out []FileInfo
	for name, child := range f.nodes {
		if name != "/" && path.Dir(name) == real {
			out = append(out, info(name, child))
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out, nil
}

// Size returns the bytes in all files.
func (f *FS) Size() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.size
}
