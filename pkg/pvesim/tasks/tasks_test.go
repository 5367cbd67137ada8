package tasks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, "pve")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// end waits for a task and returns its exit status.
func end(t *testing.T, s *Store, u UPID) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		i, err := s.Status(u.String())
		if err != nil {
			t.Fatal(err)
		}
		if !i.Running {
			return i.Exit
		}
	}
	t.Fatalf("%s does not end", u)
	return ""
}

func TestOutcomes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	cases := []struct {
		fn         func(*Task) error
		exit, last string
	}{
		{func(t *Task) error { t.Logf("hello"); return nil }, "OK", "TASK OK"},
		{func(t *Task) error { t.Warnf("careful"); return nil }, "WARNINGS: 1", "TASK WARNINGS: 1"},
		{func(*Task) error { return errors.New("a\nb") }, "a b", "TASK ERROR: a b"},
		{func(*Task) error { panic("x") }, "worker panicked: x", "TASK ERROR: worker panicked: x"},
	}
	var upids []UPID
	for i, c := range cases {
		u, err := s.Start("vzstart", fmt.Sprint(100+i), "root@pam!t1", c.fn)
		if err != nil {
			t.Fatal(err)
		}
		upids = append(upids, u)
		if got := end(t, s, u); got != c.exit {
			t.Errorf("exit %q, want %q", got, c.exit)
		}
		lines, total, err := s.Log(u.String(), 0, 0)
		if err != nil || total != len(lines) || lines[total-1].T != c.last || lines[0].N != 1 {
			t.Errorf("log %v, %d, %v", lines, total, err)
		}
	}
	// Another store finds the same.
	again := open(t, dir)
	for i, c := range cases {
		if got := end(t, again, upids[i]); got != c.exit {
			t.Errorf("after a restart: exit %q, want %q", got, c.exit)
		}
	}
	if u, tok := upids[0].Owner(); u != "root@pam" || tok != "t1" {
		t.Errorf("owner %q, %q", u, tok)
	}
}

func TestKilledTaskIsUnexpected(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	release := make(chan struct{})
	u, err := s.Start("vzcreate", "100", "root@pam", func(t *Task) error { t.Logf("working"); <-release; return nil })
	if err != nil {
		t.Fatal(err)
	}
	// A second store stands for the node after kill -9 of the first.
	again := open(t, dir)
	if i, err := again.Status(u.String()); err != nil || i.Running || i.Exit != "unexpected status" || !i.Failed() {
		t.Fatalf("%+v, %v", i, err)
	}
	close(release)
	end(t, s, u)
}

func TestStopAndClose(t *testing.T) {
	s := open(t, t.TempDir())
	wait := func(t *Task) error { <-t.Context().Done(); return t.Context().Err() }
	u, _ := s.Start("vzstart", "100", "root@pam", wait)
	s.Stop(u.String())
	if got := end(t, s, u); got != "received interrupt" {
		t.Fatalf("exit %q", got)
	}
	u, _ = s.Start("vzstart", "101", "root@pam", wait)
	if active, _ := s.List(); len(active) != 1 {
		t.Fatalf("active %v", active)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := end(t, s, u); got != "received interrupt" {
		t.Fatalf("exit %q", got)
	}
	if _, err := s.Start("x", "", "root@pam", wait); err == nil {
		t.Fatal("a closed store started a task")
	}
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	for i := range MaxFinished + 5 {
		u := UPID{Node: "pve", PID: int64(i), Start: int64(i), Type: "vzstart", ID: "100", User: "root@pam"}
		if err := os.WriteFile(dir+"/"+u.String(), []byte("TASK OK\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir)
	left, _ := os.ReadDir(dir)
	if _, finished := s.List(); len(finished) != MaxFinished || len(left) != MaxFinished || finished[0].UPID.Start != MaxFinished+4 {
		t.Fatalf("%d tasks, %d files", len(finished), len(left))
	}
}

func TestUnknown(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Status("UPID:nope"); !errors.Is(err, ErrUPID) {
		t.Errorf("%v", err)
	}
	const u = "UPID:pve:00000001:00000001:6B040541:vzstart:200:root@pam:"
	if _, err := s.Status(u); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
	if lines, total, err := s.Log(u, 0, 50); err != nil || total != 1 || lines[0].T != "unable to open file - No such file or directory" {
		t.Errorf("%v, %d, %v", lines, total, err)
	}
}

func TestUPIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := UPID{
			Node: rapid.StringMatching(`[a-z]([a-z0-9-]{0,5}[a-z0-9])?`).Draw(t, "node"),
			PID:  rapid.Int64Range(0, 1<<31).Draw(t, "pid"), PStart: rapid.Int64Range(0, 1<<34).Draw(t, "pstart"),
			Start: rapid.Int64Range(0, 1<<31).Draw(t, "start"), Type: rapid.StringMatching(`[a-z]{1,9}`).Draw(t, "type"),
			ID: rapid.String().Draw(t, "id"), User: "a@pve!b",
		}
		if got, err := ParseUPID(u.String()); err != nil || got != u {
			t.Fatalf("%q became %+v, %v", u, got, err)
		}
	})
}
