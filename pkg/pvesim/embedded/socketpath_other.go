//go:build !linux

package embedded

import "path/filepath"

// socketPath returns the path of the control socket in dir. Without Linux's /proc a long
// data directory is an error of the system's own.
func socketPath(dir string) (path string, done func(), err error) {
	return filepath.Join(dir, controlName), func() {}, nil
}
