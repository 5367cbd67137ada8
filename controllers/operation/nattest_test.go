package operation

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/guest"
)

// asked is a guest that answers each program with a text.
type asked struct {
	answers map[string]string // by VMID and the program's first word
	seen    []string
}

func (a *asked) Run(_ context.Context, t guest.Target, c guest.Command) (guest.Result, error) {
	key := t.String() + " " + c.Argv[0]
	a.seen = append(a.seen, key)
	for prefix, text := range a.answers {
		if strings.HasPrefix(key, prefix) {
			if text == "away" {
				return guest.Result{}, errors.New("the guest is away")
			}
			return guest.Result{Stdout: []byte(text)}, nil
		}
	}
	return guest.Result{ExitCode: 69, Stderr: []byte("the guest has neither bash nor nc")}, nil
}

func (*asked) Close() error { return nil }

const (
	goodNAT = "nat-test target deb.test:80\nnat-test dns ok deb.test is 192.0.2.1\nnat-test tcp ok connected\nnat-test forbidden ok 192.168.1.1 is not reached\n"
	openNAT = "nat-test dns ok x\nnat-test tcp ok connected\nnat-test forbidden fail 192.168.1.1 is reached\n"
)

func TestNATIsTestedFromAGuest(t *testing.T) {
	first := natFrom{"App default/a, guest 101", guest.Target{Node: "pve", VMID: 101}}
	second := natFrom{"App default/b, guest 102", guest.Target{Node: "pve", VMID: 102}}
	own := guest.Target{Node: "pve", VMID: 9999}
	for _, tt := range []struct {
		name    string
		guests  map[string]string
		from    string // part of the result
		problem string // part of the error, "" for none
	}{
		{"all is well", map[string]string{first.guest.String(): goodNAT}, "App default/a", ""},
		{"the first cannot be asked", map[string]string{first.guest.String(): "away", second.guest.String(): goodNAT}, "App default/b", ""},
		{"a hole", map[string]string{first.guest.String(): openNAT}, "App default/a", "forbidden fail 192.168.1.1 is reached"},
		{"half an answer", map[string]string{first.guest.String(): "nat-test dns ok x\n"}, "App default/a", "1 of 3 parts"},
		{"none can be asked", map[string]string{own.String(): goodNAT + "end\n"}, "appliance net (no App's guest could be asked", ""},
	} {
		a := &asked{answers: tt.guests}
		target := &target{name: "net", runner: a, guest: own, gw: "192.168.1.1", insiders: []natFrom{first, second}}
		out, err := target.testNAT(t.Context(), nil)
		if !strings.Contains(out.result["from"], tt.from) {
			t.Errorf("%s: from %q; %v, asked %q", tt.name, out.result["from"], err, a.seen)
		}
		if (err == nil) != (tt.problem == "") || err != nil && !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, args := range []map[string]string{{"host": "a b"}, {"port": "0"}, {"forbidden": "$(id)"}} {
		target := &target{name: "net", runner: &asked{}, guest: own, gw: "192.168.1.1", insiders: []natFrom{first}}
		if _, err := target.testNAT(t.Context(), args); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}

// TestNATScript runs the guest's part where nothing at all can be reached.
func TestNATScript(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	out, err := exec.Command("unshare", "-n", "sh", "-c", natScript, "nat-test", "own.invalid", "www.invalid", "80", "192.0.2.1").CombinedOutput()
	want := "nat-test target www.invalid:80\nnat-test dns fail the appliance's own name own.invalid does not resolve\n" +
		"nat-test tcp fail no address to connect to\nnat-test forbidden ok 192.0.2.1 is not reached\n"
	if err != nil || string(out) != want {
		t.Errorf("%v: %s", err, out)
	}
}
