package daemon_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/proximity-pve/proximity/pkg/cli"
	"github.com/proximity-pve/proximity/pkg/daemon"
)

// week is a daemon of a story, which stops and starts again.
type week struct {
	t    *testing.T
	dir  string
	stop func() error
	err  buffer
}

// TestTeamsWeek tells the story of testdata/gitops.txtar: a team follows a repository, on a
// node with guests in memory that outlives the daemon's database.
func TestTeamsWeek(t *testing.T) {
	if testing.Short() {
		t.Skip("it provisions guests")
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git")
	}
	w := &week{t: t, stop: func() error { return nil }}
	end := func() {
		if err := w.stop(); err != nil {
			t.Errorf("the daemon ended with: %v", err)
		}
		w.removeNode()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", tailOf(w.err.String(), 20_000))
		}
	})
	testscript.Run(t, testscript.Params{
		Files: []string{"testdata/gitops.txtar"},
		Setup: func(e *testscript.Env) error {
			w.dir = filepath.Join(e.WorkDir, "d")
			e.Defer(end) // while the node's directory is there, by which it is found
			e.Setenv("PROXIMITY_ENDPOINT_FILE", filepath.Join(w.dir, "endpoint.json"))
			if err := os.CopyFS(filepath.Join(e.WorkDir, "quickstart"), os.DirFS("../../manifests/quickstart")); err != nil {
				return err
			}
			return os.MkdirAll(filepath.Join(e.WorkDir, "repo", "infra"), 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"daemon": w.daemon, "proxctl": proxctl, "git": gitCommand, "replace": replace, "stalled": w.stalled, "guest": w.guest,
		},
	})
}

func tailOf(s string, n int) string { return s[max(0, len(s)-n):] }

// daemon start, daemon stop: the node goes on.
func (w *week) daemon(ts *testscript.TestScript, _ bool, args []string) {
	if args[0] == "stop" {
		ts.Check(w.stop())
		w.stop = func() error { return nil }
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	out := &buffer{}
	ended := make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Config{DataDir: w.dir, Embedded: true, Engine: "mem", KeepNode: true, Listen: "127.0.0.1:0", Stdout: out, Stderr: &w.err, LogLevel: "info"})
	}()
	w.stop = func() error {
		cancel()
		return <-ended
	}
	for end := time.Now().Add(2 * time.Minute); !strings.Contains("\n"+out.String(), "\nready\n"); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-ended:
			ts.Fatalf("the daemon ended: %v", err)
		default:
		}
		if time.Now().After(end) {
			ts.Fatalf("the daemon is not ready: %s", w.err.String())
		}
	}
}

// removeNode ends the node that the daemon left running.
func (w *week) removeNode() {
	ctx, cancel := context.WithCancel(context.Background())
	out := &buffer{}
	ended := make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Config{DataDir: w.dir, Embedded: true, Engine: "mem", Listen: "127.0.0.1:0", Stdout: out, Stderr: io.Discard})
	}()
	for end := time.Now().Add(time.Minute); !strings.Contains("\n"+out.String(), "\nready\n") && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
	}
	cancel()
	if err := <-ended; err != nil {
		w.t.Logf("ending the node: %v", err)
	}
}

func proxctl(ts *testscript.TestScript, neg bool, args []string) {
	code := cli.Main(context.Background(), cli.IO{In: strings.NewReader(""), Out: ts.Stdout(), Err: ts.Stderr(), Getenv: ts.Getenv}, inDir(ts, args))
	if neg != (code != 0) {
		ts.Fatalf("proxctl %v ended with %d", args, code)
	}
}

// inDir makes paths of the script's directory absolute: all scripts are in one process.
func inDir(ts *testscript.TestScript, args []string) []string {
	out := append([]string{}, args...)
	for i := 1; i < len(out); i++ {
		if (out[i-1] == "-f" || out[i-1] == "-d") && out[i] != "-" {
			out[i] = ts.MkAbs(out[i])
		}
	}
	return out
}

// git init DIR, git push DIR MESSAGE, git revert DIR: a repository DIR.git and its tree.
func gitCommand(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[1])
	run := func(dir string, args ...string) {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=a@example.org"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			ts.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	switch args[0] {
	case "init":
		ts.Check(os.MkdirAll(filepath.Join(dir, "apps"), 0o755))
		run(dir, "init", "--quiet", "--bare", "--initial-branch=main", dir+".git")
		run(dir, "init", "--quiet", "--initial-branch=main", ".")
	case "revert":
		run(dir, "revert", "--no-edit", "HEAD")
		run(dir, "push", "--quiet", dir+".git", "main")
	case "push":
		run(dir, "add", "--all")
		run(dir, "commit", "--quiet", "-m", args[2])
		run(dir, "push", "--quiet", dir+".git", "main")
	}
}

// replace OLD NEW FILE
func replace(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[2])
	data, err := os.ReadFile(path)
	ts.Check(err)
	next := bytes.ReplaceAll(data, []byte(args[0]), []byte(args[1]))
	if bytes.Equal(next, data) {
		ts.Fatalf("%s has no %q", args[2], args[0])
	}
	ts.Check(os.WriteFile(path, next, 0o644))
}

// stalled KIND NAME waits until an object says that the uid of what is outside is not known.
func (w *week) stalled(ts *testscript.TestScript, _ bool, args []string) {
	w.poll(ts, args[0]+" "+args[1]+" stalls", func() bool {
		return strings.Contains(w.show(ts, args...), "UIDUnknown")
	})
}

// guest NAME FILE writes which guest an App has.
func (w *week) guest(ts *testscript.TestScript, _ bool, args []string) {
	vmid := ""
	for line := range strings.Lines(w.show(ts, "app", args[0])) {
		if strings.HasPrefix(line, "  vmid:") || strings.HasPrefix(line, "  uid:") {
			vmid += line
		}
	}
	if !strings.Contains(vmid, "vmid") {
		ts.Fatalf("the App has no guest: %s", vmid)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(vmid), 0o644))
}

func (w *week) show(ts *testscript.TestScript, object ...string) string {
	var out bytes.Buffer
	cli.Main(context.Background(), cli.IO{In: strings.NewReader(""), Out: &out, Err: io.Discard, Getenv: ts.Getenv}, append([]string{"get", "-o", "yaml"}, object...))
	return out.String()
}

func (w *week) poll(ts *testscript.TestScript, what string, is func() bool) {
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("in vain: %s\n%s", what, w.show(ts, "sync", "main"))
		}
	}
}
