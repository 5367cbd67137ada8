package mem

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

func TestShellScripts(t *testing.T) {
	e := newTestEngine(t)
	for _, c := range []struct {
		script, stdin, want string
		exit                int
	}{
		{script: "echo $((6*7)); exit 3", want: "42\n", exit: 3},
		{script: "for i in 1 2; do echo $i; done | tail -n 1", want: "2\n"},
		{script: "cd /etc && echo hi >x && cat /etc/x && [ -f x ] && echo yes", want: "hi\nyes\n"},
		{script: "echo a >/tmp/l; echo b >>/tmp/l; sha256sum </tmp/l | head -c 8", want: "911169dd"},
		{script: "while read -r a b; do echo \"$b $a\"; done", stdin: "1 2\n3 4\n", want: "2 1\n4 3\n"},
		{script: "base64 -d <<EOF >/tmp/b\naGVsbG8=\nEOF\ncat /tmp/b", want: "hello"},
		{script: "nope; echo $?", want: "127\n"},
		{script: "ls /etc/host*", want: "/etc/hostname\n/etc/hosts\n"},
		{script: "{ { echo out; echo err >&3; } | cat; } 3>&1 | wc -l", want: "2\n"},
		{script: "exec 3>&1; f() { echo $1 >&3; }; f a >/dev/null; exec 3>&-", want: "a\n"},
		{script: "umask 077; trap 'echo bye' 0; trap exit 1 2 15; echo hi", want: "hi\nbye\n"},
		{script: "d=$(mktemp -d /tmp/x-XXXXXX) && cat $d/none 2>/dev/null || echo $(echo $d | wc -c)", want: "14\n"},
		{script: "if", exit: 2},
	} {
		code, out, errOut := sh(t, e, 100, c.stdin, "sh", "-c", c.script)
		if code != c.exit || out != c.want {
			t.Errorf("%s: exit %d, %q, %s", c.script, code, out, errOut)
		}
	}
	if code, out, _ := sh(t, e, 100, "echo one\ncat\ntwo\n", "sh"); code != 0 || out != "one\ntwo\n" {
		t.Errorf("a script on standard input: %d %q", code, out)
	}
	if code, out, _ := sh(t, e, 100, "", "sh", "-c", "echo $0 $1", "name", "arg"); code != 0 || out != "name arg\n" {
		t.Errorf("arguments: %d %q", code, out)
	}
}

// newTestEngine has guest 100 running.
func newTestEngine(t *testing.T) *Engine {
	t.Helper()
	e, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	g := engine.Guest{VMID: 100, Hostname: "box", Template: "debian-12-x.tar.zst"}
	if err := e.Create(t.Context(), g, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// screen collects what a terminal shows.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

// forget takes a text from the screen, so that it can be waited for again.
func (s *screen) forget(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := strings.ReplaceAll(s.text.String(), text, "")
	s.text.Reset()
	s.text.WriteString(rest)
}

func (s *screen) wait(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		got := s.text.String()
		s.mu.Unlock()
		if strings.Contains(got, want) {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Fatalf("no %q on the screen:\n%q", want, s.text.String())
}

func TestConsole(t *testing.T) {
	e := newTestEngine(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var s screen
	exit := make(chan int, 1)
	resize := make(chan engine.Size)
	go func() {
		code, err := e.Console(context.Background(), 100, engine.Terminal{In: r, Out: &s, Resize: resize})
		if err != nil {
			t.Errorf("console: %v", err)
		}
		exit <- code
	}()
	s.wait(t, "root@box:/# ")
	typed := func(text, want string) {
		t.Helper()
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		s.wait(t, want)
	}
	typed("echo $((6*7))\r", "echo $((6*7))\r\r\n\x1b[?2004l\r42\r\r\n\x1b[?2004hroot@box:/# ")
	typed("cat <<E\rone\r", "\x1b[?2004h> ")
	typed("two\rE\r", "one\r\r\ntwo\r\r\n")
	// The size travels beside what is typed: it is there soon, not at once.
	resize <- engine.Size{Columns: 132, Rows: 50}
	for deadline := time.Now().Add(30 * time.Second); !s.has("50 132\r\r\n") && time.Now().Before(deadline); {
		typed("stty size; echo as''ked\r", "asked\r\r\n")
		s.forget("asked")
	}
	s.wait(t, "50 132\r\r\n")
	typed("echo be''gun; sleep 60\r", "begun\r\r\n")
	typed("\x03", "^C\r\r\n")
	typed("echo $?\r", "130\r\r\n")
	typed("stty -echo; PS1=; echo quiet\r", "\rquiet\r\r\n")
	typed("secret=1; echo $?$secret\r", "01\r\r\n")
	typed("fi\r", "bash: ")
	_, _ = io.WriteString(w, "exit 3\r")
	select {
	case code := <-exit:
		if code != 3 {
			t.Errorf("exit %d", code)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the shell does not end")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(s.text.String(), "secret=1") {
		t.Error("input was echoed after stty -echo")
	}
}
