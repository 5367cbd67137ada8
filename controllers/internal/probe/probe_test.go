package probe

import (
	"context"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/guest"
)

// fixed answers every command with one result and remembers the command.
type fixed struct {
	res  guest.Result
	argv []string
}

func (f *fixed) Run(_ context.Context, _ guest.Target, c guest.Command) (guest.Result, error) {
	f.argv = c.Argv
	return f.res, nil
}

func TestHTTP(t *testing.T) {
	for name, tc := range map[string]struct {
		res  guest.Result
		ok   bool
		code int
		why  string
	}{
		"good":        {guest.Result{Stdout: []byte("200")}, true, 200, ""},
		"redirect":    {guest.Result{Stdout: []byte("308")}, true, 308, ""},
		"bad gateway": {guest.Result{Stdout: []byte("502")}, false, 502, "HTTP status 502"},
		"timed out":   {guest.Result{ExitCode: 28, Stdout: []byte("000"), Stderr: []byte("timed out after 3001 milliseconds\n")}, false, 0, "no answer within 3 s"},
		"refused":     {guest.Result{ExitCode: 7, Stdout: []byte("000")}, false, 0, "the connection is refused"},
		"odd":         {guest.Result{ExitCode: 99}, false, 0, "curl ends with exit code 99"},
	} {
		v, err := HTTP(t.Context(), &fixed{res: tc.res}, guest.Target{}, "http://10.20.0.100:80/")
		if err != nil || v != (Verdict{tc.ok, tc.code, tc.why}) {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

func TestTCP(t *testing.T) {
	for name, tc := range map[string]struct {
		res guest.Result
		ok  bool
	}{
		"spoken to":    {guest.Result{}, true},
		"silent":       {guest.Result{ExitCode: 28, Stderr: []byte("curl: (28) Operation timed out after 3001 milliseconds")}, true},
		"no route":     {guest.Result{ExitCode: 28, Stderr: []byte("curl: (28) Failed to connect to 10.20.0.9 port 80 after 3000 ms")}, false},
		"never opened": {guest.Result{ExitCode: 28, Stderr: []byte("curl: (28) Connection timed out after 3001 milliseconds")}, false},
		"refused":      {guest.Result{ExitCode: 7}, false},
	} {
		if v, err := TCP(t.Context(), &fixed{res: tc.res}, guest.Target{}, "10.20.0.100:80"); err != nil || v.OK != tc.ok {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

func TestThroughAsksTheProxyItself(t *testing.T) {
	f := &fixed{res: guest.Result{Stdout: []byte("200")}}
	for _, tls := range []bool{false, true} {
		if _, err := Through(t.Context(), f, guest.Target{}, "x.test", tls); err != nil {
			t.Fatal(err)
		}
		argv := strings.Join(f.argv, " ")
		if !strings.Contains(argv, "127.0.0.1") || !strings.Contains(argv, "x.test") || strings.Contains(argv, "https://") != tls {
			t.Errorf("tls %v: %s", tls, argv)
		}
	}
}

func TestNeighbour(t *testing.T) {
	for name, tc := range map[string]struct{ out, want string }{
		"answered":      {"10.20.0.9 dev eth1 lladdr bc:24:11:00:00:01 REACHABLE\n", "bc:24:11:00:00:01"},
		"from before":   {"10.20.0.9 dev eth1 lladdr bc:24:11:00:00:01 STALE\n", ""},
		"being asked":   {"10.20.0.9 dev eth1 lladdr bc:24:11:00:00:01 PROBE\n", ""},
		"does not":      {"10.20.0.9 dev eth1 FAILED\n", ""},
		"never asked":   {"", ""},
		"another":       {"10.20.0.99 dev eth1 lladdr bc:24:11:00:00:01 REACHABLE\n", ""},
		"on the uplink": {"10.20.0.9 dev eth0 FAILED\n10.20.0.9 dev eth1 lladdr bc:24:11:00:00:01 REACHABLE\n", "bc:24:11:00:00:01"},
		"half a line":   {"10.20.0.9 dev eth1 lladdr", ""},
	} {
		f := &fixed{res: guest.Result{Stdout: []byte(tc.out)}}
		if got, err := Neighbour(t.Context(), f, guest.Target{}, "10.20.0.9"); err != nil || got != tc.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
