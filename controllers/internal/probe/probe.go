// Package probe asks a port or a page from inside the appliance's guest, where the users'
// requests come from (and who it is that answers), and says in steady words what came back: an answer that is as bad as
// the one before must read the same, or every look would be a change.
package probe

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/guest"
)

// seconds bounds one probe.
const seconds = 3

// Verdict is what a probe found.
type Verdict struct {
	OK   bool
	Code int    // HTTP status, 0 for none
	Why  string // when it is not OK
}

// TCP asks whether a connection is accepted.
func TCP(ctx context.Context, r guest.Runner, from guest.Target, address string) (Verdict, error) {
	res, err := curl(ctx, r, from, "--connect-timeout", strconv.Itoa(seconds), "telnet://"+address)
	if err != nil {
		return Verdict{}, err
	}
	// A connection over which nobody speaks ends by the time limit, like one that never came
	// to be; only the latter says so.
	if res.ExitCode == 28 && !strings.Contains(string(res.Stderr), "Connection timed out") && !strings.Contains(string(res.Stderr), "Failed to connect") {
		return Verdict{OK: true}, nil
	}
	return verdict(res), nil
}

// HTTP asks for a page; 200 to 399 is OK.
func HTTP(ctx context.Context, r guest.Runner, from guest.Target, url string, options ...string) (Verdict, error) {
	res, err := curl(ctx, r, from, append(options, url)...)
	if err != nil {
		return Verdict{}, err
	}
	v := verdict(res)
	if v.OK {
		v.Code, _ = strconv.Atoi(strings.TrimSpace(string(res.Stdout)))
		if v.OK = v.Code >= 200 && v.Code < 400; !v.OK {
			v.Why = fmt.Sprintf("HTTP status %d", v.Code)
		}
	}
	return v, nil
}

// Through asks for a host name at the proxy itself. Over TLS the certificate is not judged:
// the question is whether the way to a backend is there.
func Through(ctx context.Context, r guest.Runner, proxy guest.Target, host string, tls bool) (Verdict, error) {
	if tls {
		return HTTP(ctx, r, proxy, "https://"+host+"/", "-k", "--resolve", net.JoinHostPort(host, "443")+":127.0.0.1")
	}
	return HTTP(ctx, r, proxy, "http://127.0.0.1:80/", "-H", "Host: "+host)
}

// Neighbour is the MAC address of the machine that lately answered at an address of the
// appliance's networks, "" when none is known to. What the kernel only remembers from before
// does not count: it may be of a guest that has gone since.
func Neighbour(ctx context.Context, r guest.Runner, from guest.Target, address string) (string, error) {
	res, err := r.Run(ctx, from, guest.Command{Argv: []string{"ip", "neigh", "show", "to", address}})
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(res.Stdout)) {
		words := strings.Fields(line)
		if i := slices.Index(words, "lladdr"); i > 0 && i+1 < len(words) && words[0] == address && words[len(words)-1] == "REACHABLE" {
			return words[i+1], nil
		}
	}
	return "", nil
}

func curl(ctx context.Context, r guest.Runner, from guest.Target, args ...string) (guest.Result, error) {
	argv := []string{"curl", "-q", "-s", "-S", "--noproxy", "*", "--max-time", strconv.Itoa(seconds), "-o", "/dev/null", "-w", "%{http_code}"}
	return r.Run(ctx, from, guest.Command{Argv: append(argv, args...)})
}

// verdict reads curl's exit code (curl(1), "Exit codes").
func verdict(res guest.Result) Verdict {
	switch res.ExitCode {
	case 0:
		return Verdict{OK: true}
	case 6:
		return Verdict{Why: "the name does not resolve"}
	case 7:
		return Verdict{Why: "the connection is refused"}
	case 28:
		return Verdict{Why: fmt.Sprintf("no answer within %d s", seconds)}
	case 35, 60:
		return Verdict{Why: "no TLS connection comes about"}
	case 52, 56:
		return Verdict{Why: "the connection is closed without an answer"}
	case 126, 127:
		return Verdict{Why: "the appliance lacks curl"}
	}
	return Verdict{Why: fmt.Sprintf("curl ends with exit code %d", res.ExitCode)}
}
