package e2e

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// checkout copies the files that git knows of into a directory of their own, as a fresh clone
// of what is in the working tree has them.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = rootDir
	out, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for _, name := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		src, dst := filepath.Join(rootDir, name), filepath.Join(dir, name)
		data, err := os.ReadFile(src)
		if os.IsNotExist(err) {
			continue // deleted and not committed
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(src)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dst, data, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// readmeCommands are the indented lines of the README that run proxctl.
func readmeCommands(t *testing.T) [][]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(rootDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var commands [][]string
	for _, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(line, "    bin/proxctl ") {
			commands = append(commands, strings.Fields(line))
		}
	}
	if len(commands) < 5 {
		t.Fatalf("the README shows %d commands", len(commands))
	}
	return commands
}

// TestReadme does what the README says, in a fresh checkout: make run, the commands while it
// runs, Ctrl-C, make clean, make install.
func TestReadme(t *testing.T) {
	story(t, "all")
	dir := checkout(t)
	run := exec.Command("make", "run")
	run.Dir, run.SysProcAttr = dir, &syscall.SysProcAttr{Setpgid: true}
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	run.Stderr = run.Stdout
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = syscall.Kill(-run.Process.Pid, syscall.SIGKILL) // it may have ended
		<-ended
		clean := exec.Command("make", "clean")
		clean.Dir = dir
		if out, err := clean.CombinedOutput(); err != nil {
			t.Errorf("make clean: %v\n%s", err, out)
		}
		if _, err := os.Stat(filepath.Join(dir, ".proximity")); err == nil {
			t.Error("make clean left the data directory")
		}
	})
	lines := make(chan string, 1024)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
		_ = run.Wait() // the exit code is in ProcessState
		close(ended)
	}()
	awaitLine(t, lines, "curl -H 'Host: nginx-01.prox.local'")

	for _, argv := range readmeCommands(t) {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = dir
		if r := finish(t, cmd); r.code != 0 {
			t.Errorf("%s: exit code %d\n%s%s", strings.Join(argv, " "), r.code, r.out, r.err)
		}
	}

	// Ctrl-C on the terminal reaches the whole group of processes.
	if err := syscall.Kill(-run.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(stopWithin):
		t.Fatal("make run does not end after an interrupt")
	}
	if mounts, err := os.ReadFile("/proc/mounts"); err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("mounts are left: %v", err)
	}

	install := exec.Command("make", "install", "DESTDIR="+dir+"/dest")
	install.Dir = dir
	if r := finish(t, install); r.code != 0 {
		t.Fatalf("make install: %s%s", r.out, r.err)
	}
	for _, f := range []string{"usr/local/bin/proximityd", "usr/local/bin/proxctl", "etc/systemd/system/proximityd.service", "etc/proximity/config.yaml"} {
		if _, err := os.Stat(filepath.Join(dir, "dest", f)); err != nil {
			t.Error(err)
		}
	}
}

// awaitLine reads lines until one contains a text; what was read is logged when it never comes.
func awaitLine(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // a cold build
	defer cancel()
	var seen []string
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the output ended:\n%s", strings.Join(seen, "\n"))
			}
			seen = append(seen, line)
			if strings.Contains(line, want) {
				return
			}
		case <-ctx.Done():
			t.Fatalf("no line with %q in:\n%s", want, strings.Join(seen, "\n"))
		}
	}
}

// TestWithoutRoot: the quickstart works for a user without privileges, with guests in memory,
// and the first line says so.
func TestWithoutRoot(t *testing.T) {
	story(t, "all")
	dir, err := os.MkdirTemp("/tmp", "proximity-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const nobody = 65534
	for _, name := range []string{"proximityd", "proxctl"} {
		data, err := os.ReadFile(filepath.Join(binDir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, data} {
		if err := os.Chown(p, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	as := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(dir, name), args...)
		cmd.Dir, cmd.Env = "/", []string{"HOME=" + dir, "PATH=/usr/bin:/bin"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		return cmd
	}
	d := as("proximityd", "--embedded", "--data-dir", data, "--listen", "127.0.0.1:0")
	out, err := d.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.Stderr = io.Discard
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = d.Wait()
	})
	s := bufio.NewScanner(out)
	if !s.Scan() || !strings.Contains(s.Text(), "SIMULATED") {
		t.Errorf("first line: %q", s.Text())
	}
	for s.Scan() && s.Text() != "ready" {
		continue
	}
	manifests := filepath.Join(dir, "quickstart")
	if err := os.CopyFS(manifests, os.DirFS(quickDir)); err != nil {
		t.Fatal(err)
	}
	if r := finish(t, as("proxctl", "--endpoint-file", data+"/endpoint.json", "apply", "-f", manifests, "--wait", "--timeout", "60s")); r.code != 0 {
		t.Errorf("apply: exit code %d\n%s%s", r.code, r.out, r.err)
	}
}
