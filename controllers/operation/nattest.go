package operation

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// natScript runs in an App's guest. It needs sh, timeout, getent and one of bash and nc.
//
//go:embed nattest.sh
var natScript string

// natFrom is where a test sends from.
type natFrom struct {
	name  string // "App default/web, guest 20000"
	guest guest.Target
}

// insiders lists the Apps on an appliance's network whose guests run, the oldest first.
func (r *reconciler) insiders(ctx context.Context, s *session, name string) ([]natFrom, error) {
	apps, err := runtime.List[*v1alpha1.App](ctx, s.Client, "App", "")
	if err != nil {
		return nil, err
	}
	appliances, err := runtime.List[*v1alpha1.Appliance](ctx, s.Client, "Appliance", "")
	if err != nil {
		return nil, err
	}
	apps = slices.SortedFunc(slices.Values(apps), func(x, y *v1alpha1.App) int { return routing.Older(x.GetMetadata(), y.GetMetadata()) })
	var found []natFrom
	for _, a := range apps {
		st := a.GetStatus()
		// A guest that may not go everywhere tells of its own policy and not of the appliance's.
		if st.GetState() != "Running" || st.GetAddress() == "" || st.GetFallback().GetNetwork() == "WAN" ||
			a.GetSpec().GetNetwork().GetEgress() != nil || routing.ApplianceOf(a, appliances) != name {
			continue
		}
		found = append(found, natFrom{
			name:  fmt.Sprintf("App %s, guest %d", routing.Key(a.GetMetadata()), st.GetVmid()),
			guest: guest.Target{Node: st.GetNode(), VMID: int(st.GetVmid())},
		})
	}
	return found, nil
}

var (
	natHost = regexp.MustCompile(`\A[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\z`)
	natPort = regexp.MustCompile(`\A[1-9][0-9]{0,4}\z`)
)

// maxInsiders bounds the guests that are tried one after the other.
const maxInsiders = 3

// testNAT really sends from inside the network: from the guest of an App that runs, else from
// one that is made for that. Where none can be made either the appliance's agent connects
// itself and reads the rules, which is said.
func (t *target) testNAT(ctx context.Context, args map[string]string) (outcome, error) {
	for name, re := range map[string]*regexp.Regexp{"host": natHost, "forbidden": natHost, "port": natPort} {
		if v := args[name]; v != "" && !re.MatchString(v) {
			return outcome{}, fmt.Errorf("argument %s %q is not a host name, address or port", name, v)
		}
	}
	forbidden := cmp.Or(args["forbidden"], t.gw)
	if forbidden == "" {
		return outcome{}, errors.New("the appliance has no gateway on its uplink, and no argument forbidden names a target that must be refused")
	}
	var last error
	for _, from := range t.insiders[:min(len(t.insiders), maxInsiders)] {
		out, err := t.sendFrom(ctx, from, args, forbidden)
		if err != nil {
			last = err // not a verdict: the guest cannot be asked, or lacks what it needs
			continue
		}
		return natVerdict(out, from.name, t.wan, forbidden)
	}
	if t.makeGuest != nil {
		defer t.remove()
		from, err := t.makeGuest(ctx)
		if err == nil {
			var out outcome
			if out, err = t.sendFrom(ctx, from, args, forbidden); err == nil {
				return natVerdict(out, from.name, t.wan, forbidden)
			}
		}
		if ctx.Err() != nil {
			return outcome{}, err
		}
		last = errors.Join(last, fmt.Errorf("a guest for the test: %w", err))
	}
	host, port := args["host"], cmp.Or(args["port"], "80")
	if host == "" {
		host, port = t.gw, "53"
	}
	out, err := t.agent(ctx, "", "nat-test", host, port, forbidden)
	if err != nil {
		return out, err
	}
	why := "no App's guest runs on its network"
	if last != nil {
		why = "no App's guest could be asked: " + last.Error()
	}
	return natVerdict(out, "appliance "+t.name+" ("+why+"; that the rules refuse was read, not tried)", t.wan, forbidden)
}

// sendFrom asks a guest; an error is no verdict.
func (t *target) sendFrom(ctx context.Context, from natFrom, args map[string]string, forbidden string) (outcome, error) {
	inside := *t
	inside.guest = from.guest
	own := t.name
	if t.input.Zone != "" {
		own = strings.ReplaceAll(t.name, ".", "-") + ".lan." + t.input.Zone
	}
	return inside.run(ctx, "", "sh", "-c", natScript, "nat-test", own, args["host"], cmp.Or(args["port"], "80"), forbidden)
}

// natVerdict reads lines "nat-test <part> ok|fail <why>", one for each part.
func natVerdict(out outcome, from, uplink, forbidden string) (outcome, error) {
	out.result = map[string]string{"from": from, "uplink": uplink, "forbidden": forbidden}
	var err error
	parts := 0
	for _, line := range out.log {
		f := strings.SplitN(line, " ", 4)
		if len(f) < 3 || f[0] != "nat-test" {
			continue
		}
		if f[1] == "target" {
			out.result["target"] = f[2]
			continue
		}
		parts++
		out.result[f[1]] = strings.Join(f[2:], " ")
		if f[2] != "ok" {
			err = errors.Join(err, errors.New(strings.Join(f[1:], " ")))
		}
	}
	const all = 3 // name, connection, refusal
	if parts != all {
		return out, fmt.Errorf("%s of %d parts were tested", strconv.Itoa(parts), all)
	}
	out.message = "names, the way out and the refusal of " + forbidden + " work, tested from " + from
	if err != nil {
		return out, fmt.Errorf("tested from %s: %w", from, err)
	}
	return out, nil
}
