package app

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	// CondFallback tells where an App with the fallback WAN is; it is no part of Ready.
	CondFallback = "Fallback"

	networkLAN = "LAN"
	networkWAN = "WAN"

	// defaultFallbackAfter is what spec.fallbackAfter of an Appliance is by default.
	defaultFallbackAfter = 5 * time.Minute
	// maxMoves bounds the moves of a guest within movesWithin: each is a restart of it.
	maxMoves    = 4
	movesWithin = time.Hour
	// staleBoard is how old what is known of an appliance may be to say anything.
	staleBoard = 2 * time.Minute
)

// sight is what an App sees of its appliance. Between the two nothing is decided: a daemon that
// has not looked yet, or files that are just being replaced, tell neither.
type sight int

const (
	unclear sight = iota
	serving       // the App could live on its network
	down          // no guest could
)

// standing is where an App's guest is to be, and what speaks for a change of that.
type standing struct {
	wan              bool
	unserved, served time.Time   // zero: it is not so
	moves            []time.Time // of the last hour, the oldest first
}

// next is the standing after one more look. The guest moves when the appliance has been down,
// and returns when it has served, at every look for as long as after; a guest that is not (or no
// longer) wanted on the uplink returns as soon as it is served.
func (s standing) next(now time.Time, saw sight, after time.Duration, wanted bool) standing {
	n := standing{wan: s.wan}
	for _, m := range s.moves { // a clock that went back must not keep one for ever
		if m = earlier(m, now); now.Sub(m) < movesWithin {
			n.moves = append(n.moves, m)
		}
	}
	switch {
	case !s.wan && wanted && saw != serving:
		n.unserved = s.unserved
		if saw == down {
			n.unserved = since(s.unserved, now)
		}
		if saw == down && now.Sub(n.unserved) >= after && len(n.moves) < maxMoves {
			n.wan, n.unserved, n.moves = true, time.Time{}, append(n.moves, now)
		}
	case s.wan && saw == serving:
		n.served = since(s.served, now)
		if !wanted || now.Sub(n.served) >= after && len(n.moves) < maxMoves {
			n.wan, n.served, n.moves = false, time.Time{}, append(n.moves, now)
		}
	}
	if excess := len(n.moves) - maxMoves; excess > 0 { // a user may ask for one more
		n.moves = n.moves[excess:]
	}
	return n
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// since is when something began that is so now; zero: with this look.
func since(began, now time.Time) time.Time {
	if began.IsZero() {
		return now
	}
	return earlier(began, now)
}

// look is what is seen of the App's appliance.
func look(st *live.State, looked bool, name, key string, now time.Time) sight {
	switch {
	case !looked:
		return unclear
	case st == nil:
		return down
	case now.Sub(st.At) > staleBoard:
		return unclear
	case !st.Observation.DNS.OK, st.Input.NAT && (!st.Observation.Forward || st.Observation.NAT != appliance.NATOK):
		return down
	}
	if host, why := servedBy(st, name, key); host == nil || why != "" {
		return unclear
	}
	return serving
}

// wantsFallback tells whether an App may move to the uplink.
func wantsFallback(a *v1alpha1.App, n network, cl *v1alpha1.Cluster) bool {
	spec := a.GetSpec()
	return cmp.Or(spec.GetNetwork().GetFallback(), n.appliance.GetSpec().GetFallback()) == networkWAN &&
		spec.GetState() != stateStopped && uplinkBridge(n, cl) != ""
}

func uplinkBridge(n network, cl *v1alpha1.Cluster) string {
	return cmp.Or(n.appliance.GetSpec().GetWan().GetBridge(), cl.GetSpec().GetWanBridge())
}

// fallbackAfter is how long the appliance must have been down, or served again.
func fallbackAfter(n network) time.Duration {
	d, err := time.ParseDuration(n.appliance.GetSpec().GetFallbackAfter())
	if err != nil || d <= 0 {
		return defaultFallbackAfter
	}
	return d
}

// onUplink tells whether the App's guest is to be on the uplink.
func onUplink(a *v1alpha1.App) bool { return a.GetStatus().GetFallback().GetNetwork() == networkWAN }

// fallBack decides where the guest is to be. A move is stored before anything is done for it, so
// that the next daemon goes on with it; the plan then does the rest.
func (r *reconciler) fallBack(ctx context.Context, s *session, n network, cl *v1alpha1.Cluster) error {
	if s.Object.GetSpec().GetReadOnly() {
		return nil
	}
	name, now, after := n.appliance.GetMetadata().GetName(), time.Now().UTC().Truncate(time.Second), fallbackAfter(n)
	wanted, was := wantsFallback(s.Object, n, cl), standingOf(s.Object)
	looked := r.Board.Looked(name) // asked first: the first look may be published in between
	saw := look(r.Board.Get(name), looked, name, routing.Key(s.Object.GetMetadata()), now)
	is := was.next(now, saw, after, wanted)
	store(status(s), is, was.wan != is.wan)
	if was.wan != is.wan {
		if err := s.SaveStatus(ctx); err != nil {
			return err
		}
		if is.wan {
			s.Warning(ctx, "FallingBack", "appliance %s has not served for %s: the guest moves to the uplink %s", name, after, uplinkBridge(n, cl))
		} else {
			s.Normal(ctx, "Returning", "appliance %s serves again: the guest returns to its network", name)
		}
	}
	r.reportFallback(s, n, cl, wanted, is)
	return nil
}

// reportFallback sets the condition.
func (r *reconciler) reportFallback(s *session, n network, cl *v1alpha1.Cluster, wanted bool, is standing) {
	name, after := n.appliance.GetMetadata().GetName(), fallbackAfter(n)
	switch {
	case is.wan:
		text := fmt.Sprintf("appliance %s does not serve: the guest is on the uplink %s", name, uplinkBridge(n, cl))
		if !is.served.IsZero() {
			text = fmt.Sprintf("appliance %s serves again since %s; the guest is on the uplink %s", name, is.served.Format(time.RFC3339), uplinkBridge(n, cl))
		}
		if address := status(s).GetFallback().GetAddress(); address != "" {
			text += " with address " + address
		}
		text += fmt.Sprintf(", and returns when the appliance has served for %s", after)
		if len(is.moves) >= maxMoves {
			text += "; " + tooMany(is)
		}
		if why := status(s).GetFallback().GetExposed(); why != "" {
			s.True(CondFallback, "IsolationLost", "%s; the guest may reach the Proxmox nodes: %s", text, why)
			return
		}
		s.True(CondFallback, "OnUplink", "%s", text)
	case !is.unserved.IsZero() && len(is.moves) >= maxMoves:
		s.False(CondFallback, "TooManyMoves", "appliance %s does not serve since %s; %s", name, is.unserved.Format(time.RFC3339), tooMany(is))
	case !is.unserved.IsZero():
		s.False(CondFallback, "Waiting", "appliance %s does not serve since %s; the guest moves to the uplink %s at %s",
			name, is.unserved.Format(time.RFC3339), uplinkBridge(n, cl), is.unserved.Add(after).Format(time.RFC3339))
	case wanted:
		s.False(CondFallback, "NotNeeded", "the guest is on the network of appliance %s", name)
	default:
		resource.RemoveCondition(s.Object, CondFallback)
	}
}

func tooMany(is standing) string {
	return fmt.Sprintf("it has been moved %d times within an hour and stays where it is until %s", len(is.moves), is.moves[0].Add(movesWithin).Format(time.RFC3339))
}

func standingOf(a *v1alpha1.App) standing {
	f := a.GetStatus().GetFallback()
	s := standing{wan: onUplink(a), unserved: timeOf(f.GetUnservedSince()), served: timeOf(f.GetServedSince())}
	for _, m := range f.GetMoves() {
		if t := timeOf(m); !t.IsZero() {
			s.moves = append(s.moves, t)
		}
	}
	return s
}

func store(st *v1alpha1.AppStatus, is standing, moved bool) {
	f := st.Fallback
	if f == nil {
		f = &v1alpha1.FallbackStatus{}
	}
	f.Network, f.UnservedSince, f.ServedSince, f.Moves = proto.String(networkLAN), textOf(is.unserved), textOf(is.served), nil
	if is.wan {
		f.Network = proto.String(networkWAN)
	}
	for _, m := range is.moves {
		f.Moves = append(f.Moves, m.Format(time.RFC3339))
	}
	if moved {
		f.Moving, f.Address = proto.Bool(true), nil
	}
	st.Fallback = f
	if !is.wan && is.unserved.IsZero() && len(is.moves) == 0 && !f.GetMoving() && !f.GetGuarded() {
		st.Fallback = nil
	}
}

func timeOf(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

func textOf(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return proto.String(t.Format(time.RFC3339))
}

// arrived notes that the guest runs where it is to be.
func arrived(st *v1alpha1.AppStatus) {
	if f := st.Fallback; f != nil {
		f.Moving = nil
		if f.GetNetwork() != networkWAN {
			f.Address, f.Exposed, f.NicFirewall = nil, nil, nil
		}
	}
}

// uplinkNotes says in a plan where the guest is, or may soon be.
func uplinkNotes(a *v1alpha1.App, n network, cl *v1alpha1.Cluster) []string {
	is, name := standingOf(a), n.appliance.GetMetadata().GetName()
	switch {
	case is.wan:
		return []string{fmt.Sprintf("the guest is to be on the uplink %s until appliance %s has served for %s", uplinkBridge(n, cl), name, fallbackAfter(n))}
	case !is.unserved.IsZero():
		return []string{fmt.Sprintf("appliance %s does not serve: unless it does by %s the guest is stopped, moved to the uplink %s and started",
			name, is.unserved.Add(fallbackAfter(n)).Format(time.RFC3339), uplinkBridge(n, cl))}
	}
	return nil
}

// guardTimes is when the rules of guests on the uplink were looked at last.
type guardTimes struct {
	mu   sync.Mutex
	seen map[resource.Key]time.Time
}

// maxGuardTimes bounds them; to forget one costs a look.
const maxGuardTimes = 10_000

func (g *guardTimes) get(key resource.Key) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[key]
}

func (g *guardTimes) set(key resource.Key, t time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.seen == nil || len(g.seen) >= maxGuardTimes {
		g.seen = map[resource.Key]time.Time{}
	}
	g.seen[key] = t
}

// beforeMove is done before the guest is stopped for a move and before it is started after one:
// the rules are there before it comes to the uplink, and go only when it is off it.
func (r *reconciler) beforeMove(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, step lxc.Step, o lxc.Observed) error {
	f := status(s).Fallback
	nic, ok, err := o.Config.NIC(0)
	if err != nil || !ok || !o.Present {
		nic = proxmox.NIC{}
	}
	switch {
	case onUplink(s.Object):
		if f.GetMoving() && nic.Firewall && !f.GetNicFirewall() && !f.GetGuarded() { // somebody's own, not ours yet
			f.NicFirewall = proto.Bool(true)
		}
		return r.guard(ctx, s, conn, cl, o.Node)
	case step.Action == lxc.ActionStart:
		return r.unguard(ctx, s, conn, o.Node)
	}
	return nil
}

// addressedOnUplink waits until the guest has an address on the uplink, whichever that is.
func (r *reconciler) addressedOnUplink(s *session, n network, ifs []proxmox.GuestInterface) error {
	for _, i := range ifs {
		p, err := netip.ParsePrefix(i.Inet)
		if !strings.EqualFold(i.HWAddr, status(s).GetMac()) || err != nil || n.subnet.Contains(p.Addr()) {
			continue
		}
		status(s).Fallback.Address = proto.String(p.Addr().String())
		s.True(CondNetwork, "OnUplink", "the guest got %s by DHCP on the uplink", p.Addr())
		return nil
	}
	s.False(CondNetwork, "NoAddress", "the guest has not got an address on the uplink yet")
	return runtime.Waiting(recheck, "NetworkNotReady", "the guest has not got an address on the uplink yet")
}
