package guest

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever pct or lxc-attach writes, a run ends in one of the known errors or is the
// command's own, and only messages of theirs beside their exit codes count.
func FuzzPctOutput(f *testing.F) {
	f.Add(255, []byte("container '100' not running!\n"), false)
	f.Add(255, []byte("Configuration file 'nodes/pve/lxc/100.conf' does not exist\n"), false)
	f.Add(255, []byte("perl: warning: Setting locale failed.\nUnknown option: keep-env\n400 unable to parse option\n"), false)
	f.Add(1, []byte("lxc-attach: 100: attach.c: lxc_attach: 1104 Failed to get init pid\n"), true)
	f.Add(255, []byte("it says: container '100' not running!\n"), false)
	f.Add(0, []byte("container '100' not running!\n"), false)
	f.Fuzz(func(t *testing.T, code int, stderr []byte, attach bool) {
		mode, failed := ModePct, pctFailed
		if attach {
			mode, failed = ModeAttach, attachFailed
		}
		res := Result{ExitCode: code, Stderr: stderr}
		err := entryError(mode, res)
		switch {
		case err == nil:
		case code != failed:
			t.Errorf("exit code %d is the command's own: %v", code, err)
		case errors.Is(err, ErrNotRunning):
			if !bytes.Contains(stderr, []byte("not running")) && !bytes.Contains(stderr, []byte("init pid")) && !bytes.Contains(stderr, []byte("Connection refused")) {
				t.Errorf("%q is no such message", stderr)
			}
		case errors.Is(err, ErrNoGuest):
			if attach || !bytes.Contains(stderr, []byte("does not exist")) {
				t.Errorf("%q is no such message", stderr)
			}
		case attach || !strings.Contains(err.Error(), "too old"):
			t.Errorf("%v", err)
		}
		// The same text as output says nothing.
		if err := entryError(mode, Result{ExitCode: code, Stdout: stderr}); err != nil {
			t.Errorf("a command's output was taken for a message: %v", err)
		}
		if line := firstLine(stderr); len(line) > 3*300 || strings.Contains(line, "\n") || !utf8.ValidString(line) {
			t.Errorf("first line %q", line)
		}
	})
}
