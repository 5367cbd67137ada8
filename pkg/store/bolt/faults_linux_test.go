package bolt_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

// faultEnv marks the process that a fault happens in. It has mounts of its own, which end
// with it, and limits that nobody else must have.
const faultEnv = "PROXIMITY_TEST_FAULT"

// fault is what a disk can do to a store that is open.
type fault struct {
	// prepare makes the directory of the database; it may mount something there.
	prepare func(t *testing.T, dir string)
	// strike lets it happen; heal, when set, undoes it, for the restart.
	strike, heal func(t *testing.T, dir string)
	says         string // in the error
}

func nothing(*testing.T, string) {}

var faults = map[string]fault{
	"disk full": {
		prepare: func(t *testing.T, dir string) { mount(t, "-t", "tmpfs", "-o", "size=2m", "none", dir) },
		strike: func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 4<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the disk is not full: %v", err)
			}
		},
		heal: func(t *testing.T, dir string) { mustDo(t, os.Remove(filepath.Join(dir, "filler"))) },
		says: "no space left",
	},
	"short write": {
		// A write that crosses the limit is cut off there; the rest of it fails.
		prepare: nothing,
		strike: func(t *testing.T, dir string) {
			signal.Ignore(syscall.SIGXFSZ)
			limitFileSize(t, 3*uint64(os.Getpagesize())+1000)
		},
		heal: func(t *testing.T, _ string) { limitFileSize(t, ^uint64(0)) },
		says: "file too large",
	},
	"failed sync": {
		// A volume that is larger than what is behind it, as a thin pool that is full: the
		// kernel takes every write, and cannot bring it to the disk.
		prepare: func(t *testing.T, dir string) { ext4(t, dir, "12m", "200m") },
		strike: func(t *testing.T, dir string) {
			if err := os.WriteFile(pool(dir)+"/filler", make([]byte, 20<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the pool is not full: %v", err)
			}
		},
		heal: func(t *testing.T, dir string) { mustDo(t, os.Remove(pool(dir)+"/filler")) },
	},
	"write error": {
		prepare: func(t *testing.T, dir string) { ext4(t, dir, "64m", "48m") },
		strike:  shutdown,
		says:    "input/output error",
	},
	"remounted read-only": {
		// What ext4 does by itself when it finds itself damaged.
		prepare: func(t *testing.T, dir string) { ext4(t, dir, "64m", "48m", "-o", "errors=remount-ro") },
		strike:  remountReadOnly,
		heal: func(t *testing.T, dir string) { // as an administrator would
			mustDo(t, syscall.Unmount(dir, 0))
			image := filepath.Join(pool(dir), "image")
			if out, err := exec.Command("e2fsck", "-fy", image).CombinedOutput(); err != nil && cmdCode(err) > 1 { // 1: repaired
				t.Skipf("e2fsck: %v: %s", err, out)
			}
			mount(t, "-o", "loop", image, dir)
		},
		says: "read-only file system",
	},
}

// The real thing: file systems that fill, fail and turn read-only under an open store.
// After each nothing is accepted, everything is still read, and a restart on the healed
// disk, where it heals, has all that was acknowledged.
func TestDiskFaults(t *testing.T) {
	if os.Getenv(faultEnv) != "" {
		t.Skip("this is the child")
	}
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	for name := range faults {
		t.Run(name, func(t *testing.T) {
			self, err := os.Executable()
			mustDo(t, err)
			cmd := exec.Command(self, "-test.run", "^TestDiskFaultChild$", "-test.v", "-test.timeout", "1m")
			cmd.Env = append(os.Environ(), faultEnv+"="+name)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			out, err := cmd.CombinedOutput()
			switch {
			case errors.Is(err, syscall.EPERM):
				t.Skip("mount namespaces are not allowed here")
			case err != nil:
				t.Fatalf("%v\n%s", err, out)
			case bytes.Contains(out, []byte("--- SKIP")):
				t.Skipf("%s", out)
			}
			t.Logf("%s", out)
		})
	}
}

func TestDiskFaultChild(t *testing.T) {
	f, ok := faults[os.Getenv(faultEnv)]
	if !ok {
		t.Skip("only for TestDiskFaults")
	}
	dir := t.TempDir()
	f.prepare(t, dir)
	path := filepath.Join(dir, "state.db")
	st := open(t, path, bolt.Options{})
	mustCreate(t, st, bridge("good"))
	closeStore(t, st)
	st = open(t, path, bolt.Options{})
	mustCreate(t, st, bridge("last"))
	before := st.Stats()

	f.strike(t, dir)
	var err error
	written := 0
	for ; err == nil && written < 200; written++ { // what is buffered somewhere may still be taken
		before = st.Stats()
		big := event(fmt.Sprintf("e%d", written), 1)
		big.Message = strings.Repeat("x", 60_000)
		began := time.Now()
		if err = create(st, big); time.Since(began) > 10*time.Second {
			t.Errorf("the answer took %s", time.Since(began))
		}
	}
	written-- // the last one failed
	if !errors.Is(err, store.ErrReadOnly) || !strings.Contains(err.Error(), f.says) {
		t.Fatalf("after %d good writes: %v", written, err)
	}
	t.Logf("after %d good writes: %v", written, err)
	reason := st.Stats().LastFailure
	expectReadOnly(t, st, before, reason)
	_ = st.Close() // what it says about such a disk is of no use
	if f.heal == nil {
		return
	}
	f.heal(t, dir)
	st = open(t, path, bolt.Options{})
	if !has(st, bridge("good")) || !has(st, bridge("last")) || st.Revision() < before.Revision {
		t.Errorf("acknowledged changes are lost: the store is at %d, was at %d", st.Revision(), before.Revision)
	}
	for i := range written {
		if !has(st, event(fmt.Sprintf("e%d", i), 1)) {
			t.Errorf("acknowledged event %d is lost", i)
		}
	}
	mustCreate(t, st, bridge("after"))
	closeStore(t, st)
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mount calls mount(8); where it does not work the test cannot run.
func mount(t *testing.T, args ...string) {
	t.Helper()
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		t.Skipf("make mounts private: %v", err)
	}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Skipf("mount %v: %v: %s", args, err, out)
	}
	dir := args[len(args)-1]
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

func cmdCode(err error) int {
	var exited *exec.ExitError
	if errors.As(err, &exited) {
		return exited.ExitCode()
	}
	return -1
}

// pool is where the image of an ext4 directory is.
func pool(dir string) string { return dir + ".pool" }

// ext4 mounts a new file system whose image, of a size, lies in a pool of another one.
func ext4(t *testing.T, dir, room, size string, options ...string) {
	t.Helper()
	mustDo(t, os.Mkdir(pool(dir), 0o700))
	mount(t, "-t", "tmpfs", "-o", "size="+room, "none", pool(dir))
	image := filepath.Join(pool(dir), "image")
	for _, args := range [][]string{{"truncate", "-s", size, image}, {"mkfs.ext4", "-q", "-F", "-O", "^has_journal", image}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%v: %v: %s", args, err, out)
		}
	}
	mount(t, append(append([]string{"-o", "loop"}, options...), image, dir)...)
}

// shutdown lets every access to the file system fail from now on (EXT4_IOC_SHUTDOWN).
func shutdown(t *testing.T, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	mustDo(t, err)
	defer d.Close()
	const request, withoutFlush = 0x8004587d, 2
	flags := uint32(withoutFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, d.Fd(), request, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		t.Skipf("shut the file system down: %v", errno)
	}
}

// remountReadOnly makes ext4 believe that it is damaged.
func remountReadOnly(t *testing.T, dir string) {
	t.Helper()
	out, err := exec.Command("findmnt", "-no", "SOURCE", dir).Output()
	if err != nil {
		t.Skipf("findmnt: %v", err)
	}
	trigger := "/sys/fs/ext4/" + filepath.Base(strings.TrimSpace(string(out))) + "/trigger_fs_error"
	if err := os.WriteFile(trigger, []byte("test"), 0); err != nil {
		t.Skipf("trigger an error: %v", err)
	}
}

func limitFileSize(t *testing.T, bytes uint64) {
	t.Helper()
	limit := syscall.Rlimit{Cur: bytes, Max: ^uint64(0)}
	mustDo(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
}
