package cli

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// session is a command that runs while the test looks at what it writes.
type session struct {
	t         *testing.T
	lines     *bufio.Scanner // of the output that is looked at
	interrupt context.CancelFunc
	code      chan int
	other     bytes.Buffer // the other output; read it after the end
}

// begin runs a command; of its two outputs the error output is looked at if errors is set.
func begin(t *testing.T, d *daemon, errors bool, args ...string) *session {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	s := &session{t: t, lines: bufio.NewScanner(r), interrupt: cancel, code: make(chan int, 1)}
	std := IO{In: strings.NewReader(""), Out: w, Err: &s.other, Getenv: func(string) string { return "" }}
	if errors {
		std.Out, std.Err = &s.other, w
	}
	go func() {
		s.code <- Run(ctx, std, kinds.Registry(), append(args, "--endpoint-file", d.endpointFile()))
		w.Close()
	}()
	t.Cleanup(func() {
		cancel()
		r.Close()
	})
	return s
}

// until reads lines until one matches.
func (s *session) until(pattern string) {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	var seen []string
	for s.lines.Scan() {
		if re.MatchString(s.lines.Text()) {
			return
		}
		seen = append(seen, s.lines.Text())
	}
	s.t.Fatalf("no line matches %s in:\n%s\nother output:\n%s", pattern, strings.Join(seen, "\n"), s.other.String())
}

// ends reads the rest and returns the exit code and the other output.
func (s *session) ends() (int, string) {
	for s.lines.Scan() {
	}
	return <-s.code, s.other.String()
}

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	d, err := newDaemon(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	return d
}

// must runs a command that succeeds and returns its output.
func (d *daemon) must(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	std := IO{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	if code := Run(context.Background(), std, kinds.Registry(), append(args, "--endpoint-file", d.endpointFile())); code != 0 {
		t.Fatalf("%v: exit code %d: %s", args, code, errs.String())
	}
	return out.String()
}

func manifest(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(path, []byte("apiVersion: "+resource.APIVersion+"\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	heldApp = "kind: App\nmetadata: {name: web, labels: {test-hold: 'yes'}}\n"
	freeApp = "kind: App\nmetadata: {name: web, labels: {test-hold: ''}}\n"
)

func TestWatchShowsRows(t *testing.T) {
	d := startDaemon(t)
	d.must(t, "apply", "--wait", "-f", manifest(t, freeApp))
	w := begin(t, d, false, "get", "apps", "-w")
	w.until(`^NAME   READY   STATE`)
	w.until(`^web    True `)
	d.must(t, "delete", "app/web")
	w.until(`^web    Deleting`)
	w.until(`^web    Deleting .* deleted$`)
	w.interrupt()
	if code, errs := w.ends(); code != ExitDone || errs != "" {
		t.Errorf("an interrupted watch ends with %d %q", code, errs)
	}
}

func TestWatchShowsLinesOfJSON(t *testing.T) {
	d := startDaemon(t)
	d.must(t, "apply", "--wait", "-f", manifest(t, freeApp))
	w := begin(t, d, false, "get", "app", "web", "-w", "-o", "json")
	w.until(`^{"type":"ADDED","object":{"apiVersion":"proximity/v1alpha1","kind":"App",`)
	d.must(t, "delete", "app/web")
	w.until(`^{"type":"MODIFIED".*"deletionTimestamp"`)
	w.until(`^{"type":"DELETED"`)
}

// A wait outlives a restart of the daemon, which then listens on other ports.
func TestWaitOutlivesTheDaemon(t *testing.T) {
	d := startDaemon(t)
	s := begin(t, d, true, "apply", "--wait", "--timeout", "5m", "-f", manifest(t, heldApp))
	s.until(`app/web GuestCreated: guest 100`)
	d.stop()
	s.until(`^connection lost \(.*; trying again$`)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	d.must(t, "apply", "-f", manifest(t, freeApp))
	s.until(`app/web Ready$`)
	if code, out := s.ends(); code != ExitDone || !strings.Contains(out, "Ready after") {
		t.Errorf("ended with %d: %s", code, out)
	}
}

// An interrupt ends the wait, says that nothing is undone, and undoes nothing.
func TestInterruptedWait(t *testing.T) {
	d := startDaemon(t)
	s := begin(t, d, true, "apply", "--wait", "-f", manifest(t, heldApp))
	s.until(`app/web GuestCreated`)
	s.interrupt()
	s.until(`^error: interrupted: nothing was undone, the daemon goes on`)
	if code, _ := s.ends(); code != ExitFailed {
		t.Errorf("exit code %d", code)
	}
	if got := d.must(t, "get", "apps", "-o", "name"); got != "app/web\n" {
		t.Errorf("after the interrupt there is %q", got)
	}
}

// An object that is deleted while it is waited for is told; one that comes back counts.
func TestDeletedWhileWaitedFor(t *testing.T) {
	d := startDaemon(t)
	s := begin(t, d, true, "apply", "--wait", "-f", manifest(t, heldApp))
	s.until(`app/web GuestCreated`)
	d.must(t, "delete", "app/web")
	s.until(`app/web Exists: was deleted`)
	d.must(t, "apply", "-f", manifest(t, freeApp))
	s.until(`app/web Ready$`)
	if code, _ := s.ends(); code != ExitDone {
		t.Errorf("exit code %d", code)
	}
}
