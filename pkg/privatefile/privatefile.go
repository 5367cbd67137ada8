// Package privatefile reads and writes small files that hold what is nobody else's
// business: tokens, keys and certificates. A file is written whole or not at all, synced
// with its directory entry, and has its mode before it has content.
package privatefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Modes of files and of the directories they are in.
const (
	PrivateMode = 0o600
	PublicMode  = 0o644
	DirMode     = 0o700
	// MaxBytes bounds what is read from a file.
	MaxBytes = 64 << 10
)

// writeTemp writes data to a new file beside path and syncs it. The file has its mode
// before it has content.
func writeTemp(path string, data []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", fmt.Errorf("create a file for %s: %w", path, err)
	}
	err = errors.Join(f.Chmod(mode), writeAll(f, data), f.Sync())
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	return f.Name(), nil
}

func writeAll(w io.Writer, data []byte) error {
	_, err := w.Write(data)
	return err
}

// Replace writes the file so that readers, and a start after a crash, see the old
// content or the new and nothing between.
func Replace(path string, data []byte, mode fs.FileMode) error {
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(path)
}

// Create is Replace for a file that must not exist: of several processes that
// start at once exactly one succeeds; the others get an error matching fs.ErrExist.
func Create(path string, data []byte, mode fs.FileMode) error {
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp) }()
	if err := os.Link(tmp, path); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return syncDir(path)
}

// syncDir makes the directory entry of path durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Dir(path), err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Dir(path), err)
	}
	return nil
}

// ReadPrivate reads a file that only its owner may read. It refuses a symbolic link and
// a file that others can read: what is in it may be known already.
func ReadPrivate(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): remove it to have a new one made, or chmod 600 it if nobody can have seen it",
			path, info.Mode().Perm())
	}
	return Read(path)
}

// Read reads a file of at most MaxBytes.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("read %s: more than %d bytes", path, MaxBytes)
	}
	return data, nil
}
