package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/guest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newExec(t *testing.T) *Exec {
	t.Helper()
	e, err := New("pve", 0)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestExec(t *testing.T) {
	t.Setenv("PROXIMITY_SECRET", "leaked")
	e := newExec(t)
	for _, tc := range []struct {
		argv   []string
		code   int
		stdout string
	}{
		{[]string{"printf", "%s|", "a b", "$HOME", "'", ""}, 0, "a b|$HOME|'||"},
		{[]string{"false"}, 1, ""},
		{[]string{"no-such-program"}, 127, ""},
		{[]string{"/no/such/program"}, 127, ""},
		{[]string{"awk", "BEGIN { exit 255 }"}, 255, ""},
		{[]string{"awk", `BEGIN { print ENVIRON["PROXIMITY_SECRET"] }`}, 0, "\n"},
		{[]string{"pwd"}, 0, "/\n"},
	} {
		res, err := e.Exec(t.Context(), "pve", tc.argv, nil, 0)
		if err != nil || res.ExitCode != tc.code || string(res.Stdout) != tc.stdout {
			t.Errorf("%v: %+v %v", tc.argv, res, err)
		}
	}
	if _, err := e.Exec(t.Context(), "other", []string{"true"}, nil, 0); !errors.Is(err, guest.ErrUnreachable) {
		t.Errorf("another node: %v", err)
	}
	if _, err := e.Exec(t.Context(), "pve", nil, nil, 0); err == nil {
		t.Error("nothing ran")
	}
}

func TestExecBoundsAndInput(t *testing.T) {
	e := newExec(t)
	res, err := e.Exec(t.Context(), "pve", []string{"head", "-c", "10000000", "/dev/zero"}, nil, 0)
	if err != nil || len(res.Stdout) != guest.DefaultMaxOutput || !res.Truncated {
		t.Errorf("%d bytes, %v", len(res.Stdout), err)
	}
	input := bytes.Repeat([]byte{0, 255}, 1<<20)
	res, err = e.Exec(t.Context(), "pve", []string{"cat"}, bytes.NewReader(input), len(input))
	if err != nil || !bytes.Equal(res.Stdout, input) {
		t.Errorf("%d bytes, %v", len(res.Stdout), err)
	}
}

func TestManyAtOnce(t *testing.T) {
	e := newExec(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			res, err := e.Exec(t.Context(), "pve", []string{"echo", fmt.Sprint(i)}, nil, 0)
			if err != nil || strings.TrimSpace(string(res.Stdout)) != fmt.Sprint(i) {
				t.Errorf("%d: %+v %v", i, res, err)
			}
		})
	}
	wg.Wait()
}

// A cancelled run takes the program's children with it.
func TestCancelKillsTheWholeGroup(t *testing.T) {
	e := newExec(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "family")
	text := "#!/bin/sh\nsleep 1000 &\necho $! >" + dir + "/child\nwait\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := e.Exec(ctx, "pve", []string{script}, nil, 0); done <- err }()
	child := ""
	waitFor(t, func() bool {
		b, _ := os.ReadFile(dir + "/child")
		child = strings.TrimSpace(string(b))
		return strings.HasSuffix(string(b), "\n")
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	waitFor(t, func() bool {
		stat, err := os.ReadFile("/proc/" + child + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// waitFor polls for a state of processes, for which there is no event.
func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the test ended before")
		}
	}
}
