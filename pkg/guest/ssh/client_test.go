package ssh

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
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"pgregory.net/rapid"
)

func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestExitCodesAndOutput(t *testing.T) {
	_, cfg := newFakeNode(t)
	c := newClient(t, cfg)
	for _, tc := range []struct {
		argv           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"true"}, 0, "", ""},
		{[]string{"false"}, 1, "", ""},
		{[]string{"awk", `BEGIN { print "out"; print "err" > "/dev/stderr"; exit 255 }`}, 255, "out\n", "err\n"},
		{[]string{"/no/such/program"}, 127, "", "not found"},
		{[]string{"kill", "-9", "0"}, 137, "", ""},
	} {
		res, err := c.Exec(t.Context(), "pve", tc.argv, nil, 0)
		if err != nil || res.ExitCode != tc.code || string(res.Stdout) != tc.stdout || !strings.Contains(string(res.Stderr), tc.stderr) || res.Truncated {
			t.Errorf("%v: %+v %v", tc.argv, res, err)
		}
	}
}

// Whatever the arguments hold, the shell on the node sees them as they are.
func TestShellSeesArgumentsUnchanged(t *testing.T) {
	_, cfg := newFakeNode(t)
	c := newClient(t, cfg)
	rapid.Check(t, func(t *rapid.T) {
		arg := rapid.OneOf(
			rapid.StringOf(rapid.RuneFrom([]rune("a-=$`'\"\\ \t\r\n;|&*?[]{}()<>#!~%^é\u2028\x01"))),
			rapid.SampledFrom([]string{"", "$(touch pwned)", "`id`", "a b", "'", "''", "\\", "-n", "~root", "*", "A=b", "!!", "\n"}),
		)
		args := rapid.SliceOfN(arg, 1, 6).Draw(t, "args")
		res, err := c.Exec(context.Background(), "pve", append([]string{"printf", `%s\0`}, args...), nil, 0)
		if err != nil || res.ExitCode != 0 {
			t.Fatalf("%+v %v", res, err)
		}
		if want := strings.Join(args, "\x00") + "\x00"; string(res.Stdout) != want {
			t.Fatalf("%q became %q", want, res.Stdout)
		}
	})
}

func FuzzQuote(f *testing.F) {
	f.Add("it's")
	f.Add("$(id)")
	f.Fuzz(func(t *testing.T, s string) {
		q := guest.ShellQuote(s)
		if got := unquote(q); got != s {
			t.Errorf("%q -> %s -> %q", s, q, got)
		}
	})
}

// unquote reads a quoted word as POSIX 2.2 says, and fails on anything that a shell would
// give a meaning to.
func unquote(q string) string {
	var out strings.Builder
	for i := 0; i < len(q); i++ {
		switch c := q[i]; {
		case c == '\'':
			end := strings.IndexByte(q[i+1:], '\'')
			if end < 0 {
				return "open quote"
			}
			out.WriteString(q[i+1 : i+1+end])
			i += end + 1
		case c == '\\' && i+1 < len(q) && q[i+1] == '\'':
			out.WriteByte('\'')
			i++
		case strings.IndexByte(" \t\n;&|<>()$`\\\"*?[]{}#~=!%^", c) >= 0 || c < ' ' || c >= 0x7f:
			return fmt.Sprintf("bare %q", c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

func TestCommandLinesThatCannotBe(t *testing.T) {
	node, cfg := newFakeNode(t)
	c := newClient(t, cfg)
	for _, argv := range [][]string{nil, {"a\x00b"}, {strings.Repeat("x", maxCommandLine+1)}} {
		if _, err := c.Exec(t.Context(), "pve", argv, nil, 0); err == nil {
			t.Errorf("%.20q ran", argv)
		}
	}
	if node.connections.Load() != 0 {
		t.Error("the node was asked")
	}
}

func TestLargeOutputIsCut(t *testing.T) {
	_, cfg := newFakeNode(t)
	c := newClient(t, cfg)
	const size = 10 << 20
	argv := []string{"head", "-c", fmt.Sprint(size), "/dev/zero"}
	res, err := c.Exec(t.Context(), "pve", argv, nil, 0)
	if err != nil || res.ExitCode != 0 || len(res.Stdout) != guest.DefaultMaxOutput || !res.Truncated {
		t.Errorf("%d bytes, truncated %v, exit %d, %v", len(res.Stdout), res.Truncated, res.ExitCode, err)
	}
	res, err = c.Exec(t.Context(), "pve", argv, nil, size)
	if err != nil || len(res.Stdout) != size || res.Truncated {
		t.Errorf("%d bytes, truncated %v, %v", len(res.Stdout), res.Truncated, err)
	}
}

func TestBinaryInput(t *testing.T) {
	_, cfg := newFakeNode(t)
	c := newClient(t, cfg)
	input := make([]byte, 3<<20)
	for i := range input {
		input[i] = byte(i * i >> 3)
	}
	res, err := c.Exec(t.Context(), "pve", []string{"cat"}, bytes.NewReader(input), len(input))
	if err != nil || !bytes.Equal(res.Stdout, input) {
		t.Errorf("%d bytes, %v", len(res.Stdout), err)
	}
	// A program that does not read its input must not hold us up.
	res, err = c.Exec(t.Context(), "pve", []string{"true"}, bytes.NewReader(input), 0)
	if err != nil || res.ExitCode != 0 {
		t.Errorf("%+v %v", res, err)
	}
}

func TestManyAtOnceShareOneConnection(t *testing.T) {
	node, cfg := newFakeNode(t)
	c := newClient(t, cfg)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			res, err := c.Exec(t.Context(), "pve", []string{"awk", fmt.Sprintf("BEGIN { print %d; exit %d }", i, i)}, nil, 0)
			if err != nil || res.ExitCode != i || string(res.Stdout) != fmt.Sprintln(i) {
				t.Errorf("%d: %+v %v", i, res, err)
			}
		})
	}
	wg.Wait()
	if n := node.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	if n := node.most.Load(); n > DefaultSessions {
		t.Errorf("%d commands at once", n)
	}
}

func TestConnectionCutWhileRunning(t *testing.T) {
	node, cfg := newFakeNode(t)
	c := newClient(t, cfg)
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(t.Context(), "pve", []string{"sleep", "1000"}, nil, 0)
		done <- err
	}()
	waitFor(t, func() bool { return node.running.Load() == 1 })
	node.cut()
	if err := <-done; !errors.Is(err, guest.ErrUnreachable) {
		t.Errorf("%v", err)
	}
	// The next command finds its way, on a new connection.
	if res, err := c.Exec(t.Context(), "pve", []string{"echo", "back"}, nil, 0); err != nil || string(res.Stdout) != "back\n" {
		t.Errorf("%+v %v", res, err)
	}
	if n := node.connections.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// waitFor polls for a state of the fake node that it has no event for.
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

func TestKeptConnectionThatDiedIsReplaced(t *testing.T) {
	node, cfg := newFakeNode(t)
	c := newClient(t, cfg)
	for range 5 {
		if _, err := c.Exec(t.Context(), "pve", []string{"true"}, nil, 0); err != nil {
			t.Fatal(err)
		}
		node.cut()
	}
}

func TestNobodyListens(t *testing.T) {
	node, cfg := newFakeNode(t)
	address := node.listener.Addr().String()
	node.stop()
	c := newClient(t, cfg)
	if _, err := c.Exec(t.Context(), "pve", []string{"true"}, nil, 0); !errors.Is(err, guest.ErrUnreachable) {
		t.Errorf("%v", err)
	}
	// It is tried again each time: the node may be back.
	node.listen(address)
	if _, err := c.Exec(t.Context(), "pve", []string{"true"}, nil, 0); err != nil {
		t.Error(err)
	}
}

func TestHostKeyMustMatch(t *testing.T) {
	node, cfg := newFakeNode(t)
	other, _ := newKey(t)
	otherLine := string(ssh.MarshalAuthorizedKey(other.PublicKey()))
	right := cfg.HostKeys[0]
	address := node.listener.Addr().String()
	file := func(keys ...ssh.PublicKey) []string {
		name := filepath.Join(t.TempDir(), "known_hosts")
		var lines []string
		for _, k := range keys {
			lines = append(lines, knownhosts.Line([]string{address}, k))
		}
		if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{name}
	}
	for _, tc := range []struct {
		name  string
		lines []string
		files []string
		good  bool
	}{
		{"pinned", []string{right}, nil, true},
		{"one of two", []string{otherLine, right}, nil, true},
		{"another", []string{otherLine}, nil, false},
		{"known host", nil, file(node.hostKey.PublicKey()), true},
		{"known host with another key", nil, file(other.PublicKey()), false},
		{"unknown host", nil, file(), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg.HostKeys, cfg.KnownHosts = tc.lines, tc.files
			before := node.attempts.Load()
			_, err := newClient(t, cfg).Exec(t.Context(), "pve", []string{"true"}, nil, 0)
			if (err == nil) != tc.good || !tc.good && !errors.Is(err, guest.ErrHostKey) {
				t.Errorf("%v", err)
			}
			if !tc.good && node.attempts.Load() != before {
				t.Error("our key was shown to a node that is not the one we know")
			}
		})
	}
}

func TestHostKeyChangesUnderway(t *testing.T) {
	node, cfg := newFakeNode(t)
	c := newClient(t, cfg)
	if _, err := c.Exec(t.Context(), "pve", []string{"true"}, nil, 0); err != nil {
		t.Fatal(err)
	}
	address := node.listener.Addr().String()
	node.stop()
	node.hostKey, _ = newKey(t)
	node.config = &ssh.ServerConfig{PublicKeyCallback: node.config.PublicKeyCallback}
	node.config.AddHostKey(node.hostKey)
	node.listen(address)
	for range 5 {
		if _, err := c.Exec(t.Context(), "pve", []string{"true"}, nil, 0); !errors.Is(err, guest.ErrHostKey) {
			t.Errorf("%v", err)
		}
	}
	if n := node.connections.Load(); n != 2 {
		t.Errorf("%d connections: a wrong host key is a standing mistake, not to be tried each time", n)
	}
}

func TestWrongUserKey(t *testing.T) {
	node, cfg := newFakeNode(t)
	_, cfg.PrivateKey = newKey(t)
	c := newClient(t, cfg)
	for range 5 {
		if _, err := c.Exec(t.Context(), "pve", []string{"true"}, nil, 0); !errors.Is(err, guest.ErrAuth) {
			t.Errorf("%v", err)
		}
	}
	if n := node.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestCancelEndsARun(t *testing.T) {
	node, cfg := newFakeNode(t)
	cfg.Sessions = 1
	c := newClient(t, cfg)
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := c.Exec(ctx, "pve", []string{"sleep", "1000"}, nil, 0)
			done <- err
		}()
		waitFor(t, func() bool { return node.running.Load() == 1 })
		// One waits for the only place, one for nothing.
		waiting := make(chan error, 1)
		go func() { _, err := c.Exec(ctx, "pve", []string{"true"}, nil, 0); waiting <- err }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("running: %v", err)
		}
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Errorf("waiting: %v", err)
		}
		waitFor(t, func() bool { return node.running.Load() == 0 })
	}
	// The place is free again.
	if _, err := c.Exec(t.Context(), "pve", []string{"true"}, nil, 0); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	node, cfg := newFakeNode(t)
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(t.Context(), "pve", []string{"sleep", "1000"}, nil, 0)
		done <- err
	}()
	waitFor(t, func() bool { return node.running.Load() == 1 })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, guest.ErrUnreachable) {
		t.Errorf("%v", err)
	}
	if _, err := c.Exec(t.Context(), "pve", []string{"true"}, nil, 0); !errors.Is(err, guest.ErrUnreachable) {
		t.Errorf("after Close: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, good := newFakeNode(t)
	for name, change := range map[string]func(*Config){
		"no host key":    func(c *Config) { c.HostKeys = nil },
		"bad host key":   func(c *Config) { c.HostKeys = []string{"ssh-ed25519 AAAA"} },
		"both":           func(c *Config) { c.KnownHosts = []string{"x"} },
		"no such file":   func(c *Config) { c.HostKeys, c.KnownHosts = nil, []string{"/no/such/file"} },
		"no credentials": func(c *Config) { c.PrivateKey = nil },
		"bad key":        func(c *Config) { c.PrivateKey = []byte("x") },
		"sessions":       func(c *Config) { c.Sessions = 1000 },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
