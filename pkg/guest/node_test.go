package guest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/guest/local"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The node's programs, as far as we use them: they run the command on this machine, and
// guests 101 and 102 are not there in the two ways a guest can be absent. The messages are
// those of pve-container 6 and lxc 6.
var nodePrograms = map[string]string{
	"pct": `#!/bin/sh
[ "$1 $3 $4 $5" = "exec --keep-env 0 --" ] || { echo "400 wrong usage: $*" >&2; exit 255; }
case $2 in
101) echo "container '101' not running!" >&2; exit 255 ;;
102) echo "Configuration file 'nodes/pve/lxc/102.conf' does not exist" >&2; exit 255 ;;
esac
shift 5
exec env -i PATH="$PATH" "$@"
`,
	"lxc-attach": `#!/bin/sh
[ "$1 $3" = "-n --clear-env" ] || { echo "lxc-attach: wrong usage: $*" >&2; exit 1; }
if [ "$2" = 101 ]; then
	echo "lxc-attach: 101: ../src/lxc/attach.c: get_attach_context: 406 Connection refused - Failed to get init pid" >&2
	exit 1
fi
shift 3
while [ "$1" = -v ]; do export "$2"; shift 2; done
shift
exec "$@"
`,
}

// newOnNode returns a way into guests whose node is this machine with those programs.
func newOnNode(t *testing.T, mode guest.Mode) *guest.OnNode {
	t.Helper()
	bin := t.TempDir()
	for name, text := range nodePrograms {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	exec, err := local.New("pve", 0)
	if err != nil {
		t.Fatal(err)
	}
	o, err := guest.NewOnNode(exec, mode)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

var target = guest.Target{Node: "pve", VMID: 100}

func TestRun(t *testing.T) {
	for _, mode := range []guest.Mode{guest.ModePct, guest.ModeAttach} {
		t.Run(string(mode), func(t *testing.T) {
			o := newOnNode(t, mode)
			res, err := o.Run(t.Context(), target, guest.Command{
				Argv:  []string{"awk", `BEGIN { for (i = 1; i < ARGC; i++) print ARGV[i]; print ENVIRON["A"] "|" ENVIRON["B"]; exit 3 }`, "--", "a b", "$HOME", "", "-x"},
				Env:   map[string]string{"A": "1 2", "B": "$(id)"},
				Stdin: strings.NewReader("unread"),
			})
			if err != nil || res.ExitCode != 3 {
				t.Fatalf("%+v %v", res, err)
			}
			if got, want := string(res.Stdout), "a b\n$HOME\n\n-x\n1 2|$(id)\n"; !strings.HasSuffix(got, want) {
				t.Errorf("%q", got)
			}
			res, err = o.Run(t.Context(), target, guest.Command{Argv: []string{"cat"}, Stdin: bytes.NewReader([]byte{0, 255, '\n', 0})})
			if err != nil || !bytes.Equal(res.Stdout, []byte{0, 255, '\n', 0}) {
				t.Errorf("%+v %v", res, err)
			}
			res, err = o.Run(t.Context(), target, guest.Command{Argv: []string{"head", "-c", "5000", "/dev/zero"}, MaxOutput: 100})
			if err != nil || len(res.Stdout) != 100 || !res.Truncated {
				t.Errorf("%d bytes, truncated %v, %v", len(res.Stdout), res.Truncated, err)
			}
		})
	}
}

func TestAbsentGuests(t *testing.T) {
	for _, tc := range []struct {
		mode guest.Mode
		t    guest.Target
		want error
	}{
		{guest.ModePct, guest.Target{Node: "pve", VMID: 101}, guest.ErrNotRunning},
		{guest.ModePct, guest.Target{Node: "pve", VMID: 102}, guest.ErrNoGuest},
		{guest.ModeAttach, guest.Target{Node: "pve", VMID: 101}, guest.ErrNotRunning},
		{guest.ModePct, guest.Target{Node: "other", VMID: 100}, guest.ErrUnreachable},
	} {
		_, err := newOnNode(t, tc.mode).Run(t.Context(), tc.t, guest.Command{Argv: []string{"true"}})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s %s: %v, want %v", tc.mode, tc.t, err, tc.want)
		}
	}
}

// A command that ends with pct's own exit code is not mistaken for pct's failure.
func TestExitCodesAreTheCommands(t *testing.T) {
	for _, mode := range []guest.Mode{guest.ModePct, guest.ModeAttach} {
		o := newOnNode(t, mode)
		for _, code := range []int{0, 1, 2, 126, 254, 255} {
			script := "BEGIN { print \"not running\" > \"/dev/stderr\"; exit " + strconv.Itoa(code) + " }"
			res, err := o.Run(t.Context(), target, guest.Command{Argv: []string{"awk", script}})
			if err != nil || res.ExitCode != code {
				t.Errorf("%s: exit %d: %+v %v", mode, code, res, err)
			}
		}
	}
}

func TestCommandsThatCannotBe(t *testing.T) {
	o := newOnNode(t, guest.ModePct)
	for name, c := range map[string]guest.Command{
		"nothing":        {},
		"empty program":  {Argv: []string{""}},
		"an option":      {Argv: []string{"--help"}},
		"an assignment":  {Argv: []string{"A=b"}},
		"NUL":            {Argv: []string{"echo", "a\x00b"}},
		"variable name":  {Argv: []string{"true"}, Env: map[string]string{"A=B": "c"}},
		"variable value": {Argv: []string{"true"}, Env: map[string]string{"A": "\x00"}},
	} {
		if _, err := o.Run(t.Context(), target, c); err == nil {
			t.Errorf("%s: ran", name)
		}
	}
	if _, err := o.Run(t.Context(), guest.Target{Node: "pve", VMID: 0}, guest.Command{Argv: []string{"true"}}); err == nil {
		t.Error("VMID 0: ran")
	}
	if _, err := guest.NewOnNode(nil, "shell"); err == nil {
		t.Error("unknown mode accepted")
	}
}

// argvOf is a node that only remembers what it was to run.
type argvOf struct {
	mu   sync.Mutex
	last []string
}

func (a *argvOf) Exec(_ context.Context, _ string, argv []string, _ io.Reader, _ int) (guest.Result, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = argv
	return guest.Result{}, nil
}

// However nasty the arguments, the command is the fixed head and then they, untouched.
func TestArgumentsAreNeverInterpreted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom([]guest.Mode{guest.ModePct, guest.ModeAttach}).Draw(t, "mode")
		text := rapid.StringOf(rapid.RuneFrom([]rune("a-=$`'\"\\ \n;|&*?{}()<>#!~%é")))
		argv := append([]string{"prog"}, rapid.SliceOf(text).Draw(t, "args")...)
		value := text.Draw(t, "value")
		node := &argvOf{}
		o, _ := guest.NewOnNode(node, mode)
		if _, err := o.Run(t.Context(), target, guest.Command{Argv: argv, Env: map[string]string{"K": value}}); err != nil {
			t.Fatal(err)
		}
		head := []string{"pct", "exec", "100", "--keep-env", "0", "--", "env", "K=" + value}
		if mode == guest.ModeAttach {
			head = []string{"lxc-attach", "-n", "100", "--clear-env", "-v", "K=" + value, "--"}
		}
		if !slices.Equal(node.last, append(head, argv...)) {
			t.Fatalf("%q", node.last)
		}
	})
}

// Before Proxmox VE 8.2 pct knows no --keep-env: then the environment is cleared in the
// guest. The first run on such a node costs more.
func TestOldPct(t *testing.T) {
	o := newOnNode(t, guest.ModePct)
	bin, _, _ := strings.Cut(os.Getenv("PATH"), ":")
	calls := filepath.Join(t.TempDir(), "calls")
	old := `#!/bin/sh
echo "$*" >>` + calls + `
[ "$1 $3" = "exec --" ] || { echo "Unknown option: keep-env" >&2; echo "400 unable to parse option" >&2; exit 255; }
shift 3
SECRET=x exec "$@"
`
	if err := os.WriteFile(filepath.Join(bin, "pct"), []byte(old), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		res, err := o.Run(t.Context(), target, guest.Command{Argv: []string{"sh", "-c", "cat; echo $SECRET$A; exit 4"}, Env: map[string]string{"A": "a b"}, Stdin: strings.NewReader("in ")})
		if err != nil || res.ExitCode != 4 || string(res.Stdout) != "in a b\n" {
			t.Fatalf("%+v %v", res, err)
		}
	}
	made, _ := os.ReadFile(calls)
	if n := strings.Count(string(made), "\n"); n != 4 {
		t.Errorf("%d calls of pct, want 4: one refused, one to look, two runs:\n%s", n, made)
	}
}
