package console

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var target = guest.Target{Node: "pve", VMID: 100}

// shells are what a guest's root may have for a shell.
var shells = map[string][]string{
	"bash":    {"bash", "--norc", "-i"},
	"dash":    {"dash", "-i"},
	"busybox": {"busybox", "ash", "-i"},
	"rbash":   {"bash", "--posix", "-i"},
}

// statusAPI answers only what is asked after a console could not be had.
type statusAPI struct {
	API
	status string
}

func (s statusAPI) LXCStatus(context.Context, string, int) (proxmox.LXCStatus, error) {
	return proxmox.LXCStatus{Status: s.status}, nil
}

// newRunner enters guests that are shells of this machine.
func newRunner(t *testing.T, sessions int, dial func(guest.Target) Terminal) *Runner {
	t.Helper()
	r, err := New(Config{API: statusAPI{status: "running"}, Sessions: sessions})
	if err != nil {
		t.Fatal(err)
	}
	r.dial = func(_ context.Context, g guest.Target) (Terminal, error) { return dial(g), nil }
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func forEachShell(t *testing.T, f func(t *testing.T, r *Runner, opened *atomic.Int32)) {
	for name, argv := range shells {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(argv[0]); err != nil {
				t.Skip(err)
			}
			var opened atomic.Int32
			f(t, newRunner(t, 0, func(guest.Target) Terminal { opened.Add(1); return startShell(t, argv...) }), &opened)
		})
	}
}

func run(t *testing.T, r *Runner, c guest.Command) guest.Result {
	t.Helper()
	res, err := r.Run(t.Context(), target, c)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestRun(t *testing.T) {
	big := make([]byte, 300<<10)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	long := strings.Repeat("x", 64<<10)
	forEachShell(t, func(t *testing.T, r *Runner, opened *atomic.Int32) {
		for _, tc := range []struct {
			name string
			c    guest.Command
			want guest.Result
		}{
			{"exit code", guest.Command{Argv: []string{"sh", "-c", "exit 3"}}, guest.Result{ExitCode: 3}},
			{"both outputs", guest.Command{Argv: []string{"sh", "-c", "echo out; echo err >&2; printf 'no newline'; exit 255"}},
				guest.Result{ExitCode: 255, Stdout: []byte("out\nno newline"), Stderr: []byte("err\n")}},
			{"not found", guest.Command{Argv: []string{"nosuchprogram"}}, guest.Result{ExitCode: 127}},
			{"not executable", guest.Command{Argv: []string{"/etc/passwd"}}, guest.Result{ExitCode: 126}},
			{"killed", guest.Command{Argv: []string{"sh", "-c", "kill -9 $$"}}, guest.Result{ExitCode: 137}},
			{"arguments", guest.Command{Argv: []string{"printf", "%s|", "a b", `it's "quoted" $HOME \ ;&|`, "", "ü\n\t\r", "--", "*"}},
				guest.Result{Stdout: []byte("a b|it's \"quoted\" $HOME \\ ;&|||ü\n\t\r|--|*|")}},
			{"a long argument", guest.Command{Argv: []string{"printf", "%s", long}}, guest.Result{Stdout: []byte(long)}},
			{"environment", guest.Command{Argv: []string{"env"}, Env: map[string]string{"A": "x y'z", "B": ""}},
				guest.Result{Stdout: []byte("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOME=/root\ncontainer=lxc\nA=x y'z\nB=\n")}},
			{"input", guest.Command{Argv: []string{"cat"}, Stdin: bytes.NewReader(big)}, guest.Result{Stdout: big}},
			{"no input", guest.Command{Argv: []string{"cat"}}, guest.Result{}},
			{"input that nobody reads", guest.Command{Argv: []string{"true"}, Stdin: bytes.NewReader(big)}, guest.Result{}},
			{"bounded output", guest.Command{Argv: []string{"sh", "-c", "head -c 100000 /dev/zero; echo x >&2; exit 5"}, MaxOutput: 10},
				guest.Result{ExitCode: 5, Stdout: make([]byte, 10), Stderr: []byte("x\n"), Truncated: true}},
			{"exactly as much as fits", guest.Command{Argv: []string{"printf", "0123456789"}, MaxOutput: 10}, guest.Result{Stdout: []byte("0123456789")}},
			{"terminal noise", guest.Command{Argv: []string{"sh", "-c", `printf '\033[2J\r\n%s\r\nprx-0 1 end\r\n' "$(head -c 9000 /dev/zero | tr '\0' y)" >/dev/tty; echo ok`}},
				guest.Result{Stdout: []byte("ok\n")}},
			{"is no terminal", guest.Command{Argv: []string{"sh", "-c", "test -t 0 || test -t 1 || test -t 2 || echo none"}}, guest.Result{Stdout: []byte("none\n")}},
			{"directory", guest.Command{Argv: []string{"pwd"}}, guest.Result{Stdout: []byte("/\n")}},
		} {
			got := run(t, r, tc.c)
			if tc.want.ExitCode == 126 || tc.want.ExitCode == 127 {
				got.Stderr = nil // says so in words of its own
			}
			if got.ExitCode != tc.want.ExitCode || !bytes.Equal(got.Stdout, tc.want.Stdout) || !bytes.Equal(got.Stderr, tc.want.Stderr) || got.Truncated != tc.want.Truncated {
				t.Errorf("%s: %d %.80q %.80q %v, want %d %.80q %.80q %v", tc.name, got.ExitCode, got.Stdout, got.Stderr, got.Truncated,
					tc.want.ExitCode, tc.want.Stdout, tc.want.Stderr, tc.want.Truncated)
			}
		}
		if n := opened.Load(); n != 1 {
			t.Errorf("%d consoles were opened, want 1 for all runs", n)
		}
	})
}

// What WriteFiles does first: an archive is unpacked, with every kind of byte in it.
func TestArchiveThroughAConsole(t *testing.T) {
	want := map[string][]byte{"a": []byte("A\n"), "sub/it's b": {0, 1, 3, 4, 17, 19, 21, 26, 28, 127, 255, '\r', '\n'}, "big": bytes.Repeat([]byte("0123456789\r\n"), 5000)}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, data := range want {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(data)
	}
	_ = w.Close()
	forEachShell(t, func(t *testing.T, r *Runner, _ *atomic.Int32) {
		dir := t.TempDir()
		res := run(t, r, guest.Command{Argv: []string{"tar", "-x", "-f", "-", "-C", dir}, Stdin: bytes.NewReader(archive.Bytes())})
		if res.ExitCode != 0 {
			t.Fatalf("%d %s", res.ExitCode, res.Stderr)
		}
		for name, data := range want {
			if got, err := guest.ReadFile(t.Context(), r, target, dir+"/"+name, 0); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %.40q %v", name, got, err)
			}
		}
	})
}

// Half a command that somebody left on the line is not run with ours.
func TestWhatSomebodyTypedIsNotRun(t *testing.T) {
	forEachShell(t, func(t *testing.T, r *Runner, _ *atomic.Int32) {
		canary := filepath.Join(t.TempDir(), "canary")
		dial := r.dial
		r.dial = func(ctx context.Context, g guest.Target) (Terminal, error) {
			term, err := dial(ctx, g)
			// The shell must have taken it before we come.
			time.Sleep(300 * time.Millisecond)
			_ = term.Send(ctx, []byte("touch "+canary))
			return term, err
		}
		run(t, r, guest.Command{Argv: []string{"true"}})
		if _, err := os.Stat(canary); err == nil {
			t.Error("it was run")
		}
	})
}

func TestCancelledRunEndsItsProgram(t *testing.T) {
	forEachShell(t, func(t *testing.T, r *Runner, opened *atomic.Int32) {
		run(t, r, guest.Command{Argv: []string{"true"}})
		pid := filepath.Join(t.TempDir(), "pid")
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for {
				if b, _ := os.ReadFile(pid); len(b) > 0 {
					cancel()
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		_, err := r.Run(ctx, target, guest.Command{Argv: []string{"sh", "-c", "echo $$ >" + pid + ".new; mv " + pid + ".new " + pid + "; exec sleep 1000"}})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		b, _ := os.ReadFile(pid)
		waitGone(t, strings.TrimSpace(string(b)))
		run(t, r, guest.Command{Argv: []string{"true"}})
		if n := opened.Load(); n != 2 {
			t.Errorf("%d consoles were opened, want another one", n)
		}
	})
}

func waitGone(t *testing.T, pid string) {
	t.Helper()
	for range 500 {
		state, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %s is still there", pid)
}

// After Close no shell is left, and no temporary file.
func TestCloseLeavesNothing(t *testing.T) {
	forEachShell(t, func(t *testing.T, r *Runner, _ *atomic.Int32) {
		var term *ptyTerminal
		dial := r.dial
		r.dial = func(ctx context.Context, g guest.Target) (Terminal, error) {
			c, err := dial(ctx, g)
			term = c.(*ptyTerminal)
			return c, err
		}
		out := run(t, r, guest.Command{Argv: []string{"sh", "-c", "ls -d /proc/$PPID/cwd >/dev/null; readlink /proc/self/fd/0"}})
		dir := filepath.Dir(strings.TrimSpace(string(out.Stdout)))
		if !strings.Contains(dir, ".prx-") {
			t.Fatalf("where is it: %q", dir)
		}
		_ = r.Close()
		select {
		case <-term.exited:
		case <-time.After(30 * time.Second):
			t.Error("the first shell is still there")
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is still there", dir)
		}
		if _, err := r.Run(t.Context(), target, guest.Command{Argv: []string{"true"}}); !errors.Is(err, guest.ErrUnreachable) {
			t.Errorf("a run after Close: %v", err)
		}
	})
}

func TestBrokenConsoles(t *testing.T) {
	for name, tc := range map[string]struct {
		argv []string
		want error
	}{
		"closes at once":       {[]string{"true"}, guest.ErrUnreachable},
		"no shell":             {[]string{"cat"}, guest.ErrUnreachable},
		"somebody's program":   {[]string{"sleep", "100"}, guest.ErrUnreachable},
		"asks for a login":     {[]string{"sh", "-c", "while :; do printf 'login: '; read -r x; done"}, guest.ErrUnreachable},
		"nowhere to put files": {[]string{"sh", "-c", "exec unshare -rm sh -c 'mount -t tmpfs -o ro x /tmp; mount -t tmpfs -o ro x /run; exec dash -i'"}, guest.ErrNoShell},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "nowhere to put files" && exec.Command("unshare", "-rm", "true").Run() != nil {
				t.Skip("no namespaces")
			}
			r := newRunner(t, 0, func(guest.Target) Terminal { return startShell(t, tc.argv...) })
			if tc.want == guest.ErrUnreachable { // told by silence
				r.patience = 300 * time.Millisecond
			}
			if _, err := r.Run(t.Context(), target, guest.Command{Argv: []string{"true"}}); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

func TestConsoleOfAStoppedGuest(t *testing.T) {
	r, err := New(Config{API: statusAPI{status: "stopped"}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.patience = 300 * time.Millisecond
	r.dial = func(context.Context, guest.Target) (Terminal, error) { return startShell(t, "true"), nil }
	if _, err := r.Run(t.Context(), target, guest.Command{Argv: []string{"true"}}); !errors.Is(err, guest.ErrNotRunning) {
		t.Error(err)
	}
}

// What a terminal damages is not run, and a console that died between two runs is replaced.
func TestDamageAndDeath(t *testing.T) {
	var terms []*ptyTerminal
	var spoil func([]byte) []byte
	r := newRunner(t, 0, func(guest.Target) Terminal {
		p := startShell(t, "dash", "-i")
		p.setSpoil(spoil)
		terms = append(terms, p)
		return p
	})
	run(t, r, guest.Command{Argv: []string{"true"}})
	canary := filepath.Join(t.TempDir(), "canary")
	spoil = func(b []byte) []byte { return bytes.Replace(b, []byte("a p "), []byte("a p ZXhl"), 1) }
	terms[0].setSpoil(spoil)
	if _, err := r.Run(t.Context(), target, guest.Command{Argv: []string{"touch", canary}}); !errors.Is(err, guest.ErrUnreachable) {
		t.Errorf("damaged: %v", err)
	}
	if _, err := os.Stat(canary); err == nil {
		t.Error("a damaged program was run")
	}
	spoil = nil
	run(t, r, guest.Command{Argv: []string{"true"}})
	last := terms[len(terms)-1]
	last.kill()
	// Only after a while is a console asked whether it lives.
	r.guests[target].session.used = time.Now().Add(-time.Minute)
	run(t, r, guest.Command{Argv: []string{"true"}})
	if len(terms) != 4 {
		t.Errorf("%d consoles, want 4: one, its replacement, a good one, and that one's", len(terms))
	}
	for i, p := range terms {
		if p.most > 3<<10 {
			t.Errorf("console %d got %d bytes at once", i, p.most)
		}
	}
}

func TestInputIsBounded(t *testing.T) {
	r := newRunner(t, 0, func(guest.Target) Terminal { return startShell(t, "dash", "-i") })
	long := bytes.NewReader(make([]byte, MaxInput+1))
	if _, err := r.Run(t.Context(), target, guest.Command{Argv: []string{"cat"}, Stdin: long}); !errors.Is(err, errTooBig) || len(r.guests) != 0 {
		t.Error(err)
	}
	if !testing.Short() {
		// One that does not tell its length is cut off under way.
		if _, err := r.Run(t.Context(), target, guest.Command{Argv: []string{"cat"}, Stdin: struct{ io.Reader }{long}}); !errors.Is(err, errTooBig) {
			t.Error(err)
		}
	}
	if _, err := r.Run(t.Context(), target, guest.Command{Argv: []string{"x", strings.Repeat("y", maxProgram)}}); err == nil {
		t.Error("a huge command was taken")
	}
	if _, err := r.Run(t.Context(), target, guest.Command{}); err == nil {
		t.Error("an empty command was taken")
	}
}

// One console per guest, at most so many per node, and everybody gets a turn.
func TestSessionsAreBounded(t *testing.T) {
	const sessions, guests = 2, 5
	var mu sync.Mutex
	open := map[*ptyTerminal]bool{}
	most := 0
	r := newRunner(t, sessions, func(guest.Target) Terminal {
		p := startShell(t, "dash", "-i")
		mu.Lock()
		defer mu.Unlock()
		open[p] = true
		live := 0
		for q := range open {
			select {
			case <-q.closed:
			default:
				live++
			}
		}
		most = max(most, live)
		return p
	})
	var all sync.WaitGroup
	for i := range 3 * guests {
		all.Go(func() {
			g := guest.Target{Node: "pve", VMID: 100 + i%guests}
			res, err := r.Run(t.Context(), g, guest.Command{Argv: []string{"echo", fmt.Sprint(i)}})
			if err != nil || string(res.Stdout) != fmt.Sprintln(i) {
				t.Errorf("%d: %q %v", i, res.Stdout, err)
			}
		})
	}
	all.Wait()
	if most > sessions {
		t.Errorf("%d consoles were open at once, want at most %d", most, sessions)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Run(ctx, target, guest.Command{Argv: []string{"true"}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestShellsAreAtHand(t *testing.T) {
	var found []string
	for name, argv := range shells {
		if _, err := exec.LookPath(argv[0]); err == nil {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	t.Log("tested with ", found)
	if len(found) == 0 {
		t.Error("no shell at all")
	}
}
