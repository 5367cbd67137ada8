package app

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// On the uplink nothing of the appliance's stands between a guest and the Proxmox nodes. In its
// place there are rules in the guest's own firewall, known by their comment. They do nothing as
// long as the cluster's firewall is off, which is an administrator's to decide: to switch it on
// may cut the nodes off. Then the condition says that the isolation is lost.

const (
	// guardComment marks the rules as ours.
	guardComment = "proximity: while on the uplink"
	// guardEvery is the pause between looks at the rules of a guest that is on the uplink.
	guardEvery = time.Minute
	// maxGuardRules bounds what is removed at a time.
	maxGuardRules = 128
)

// guard sees to the rules of a guest that is, or is about to be, on the uplink. What cannot be
// had is put into the status; an error is for another try.
func (r *reconciler) guard(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, node string) error {
	st := status(s)
	if !st.Fallback.GetGuarded() {
		st.Fallback.Guarded = proto.Bool(true)
		if err := s.SaveStatus(ctx); err != nil { // before there is anything to take back
			return err
		}
	}
	exposed, err := r.setGuard(ctx, s, conn, cl, node)
	switch {
	case proxmox.IsForbidden(err):
		exposed = fmt.Sprintf("the rules cannot be set: %v", lxc.Classify(err))
	case err != nil:
		return lxc.Classify(fmt.Errorf("set the firewall of guest %d: %w", st.GetVmid(), err))
	}
	if exposed != st.Fallback.GetExposed() {
		st.Fallback.Exposed = nil
		if exposed != "" {
			st.Fallback.Exposed = proto.String(exposed)
			s.Warning(ctx, "IsolationLost", "guest %d may reach the Proxmox nodes from the uplink: %s", st.GetVmid(), exposed)
		}
	}
	r.guards.set(resource.KeyOf(s.Object), time.Now())
	return nil
}

func (r *reconciler) setGuard(ctx context.Context, s *session, conn *cluster.Connection, cl *v1alpha1.Cluster, node string) (exposed string, err error) {
	st, vmid := status(s), int(status(s).GetVmid())
	nodes, err := nodeAddresses(ctx, conn, cl)
	if err != nil {
		return "", err
	}
	want := guardRules(s.Object.GetSpec(), nodes)
	have, err := conn.API.GuestRules(ctx, node, vmid)
	if err != nil {
		return "", err
	}
	if !slices.EqualFunc(ours(have), want, sameRule) {
		if err := removeGuard(ctx, conn, node, vmid); err != nil {
			return "", err
		}
		for _, rule := range slices.Backward(want) { // each comes before those that are there
			if err := conn.API.AddGuestRule(ctx, node, vmid, rule); err != nil {
				return "", err
			}
		}
	}
	options, err := conn.API.GuestFirewall(ctx, node, vmid)
	if err != nil {
		return "", err
	}
	if !options.Enable {
		st.Fallback.FirewallEnabled = proto.Bool(true)
		if err := s.SaveStatus(ctx); err != nil {
			return "", err
		}
		options.Enable, options.DHCP = true, true
		if err := conn.API.SetGuestFirewall(ctx, node, vmid, options); err != nil {
			return "", err
		}
	}
	all, err := conn.API.ClusterFirewall(ctx)
	switch {
	case proxmox.IsForbidden(err):
		return fmt.Sprintf("whether the cluster's firewall is enabled is not known (%v)", lxc.Classify(err)), nil
	case err != nil:
		return "", err
	case !bool(all.Enable):
		return "the rules do nothing, because the cluster's firewall is off (Datacenter, Firewall, Options)", nil
	case len(nodes) == 0:
		return "the addresses of the nodes are not known", nil
	}
	return "", nil
}

// unguard takes back what guard did.
func (r *reconciler) unguard(ctx context.Context, s *session, conn *cluster.Connection, node string) error {
	st, vmid := status(s), int(status(s).GetVmid())
	if !st.GetFallback().GetGuarded() {
		return nil
	}
	err := removeGuard(ctx, conn, node, vmid)
	if err == nil && st.Fallback.GetFirewallEnabled() {
		var options proxmox.GuestFirewall
		if options, err = conn.API.GuestFirewall(ctx, node, vmid); err == nil && bool(options.Enable) {
			options.Enable, options.DHCP = false, false
			err = conn.API.SetGuestFirewall(ctx, node, vmid, options)
		}
	}
	if err != nil && !proxmox.IsForbidden(err) { // what may not be taken back could not be set either
		return lxc.Classify(fmt.Errorf("take back the firewall of guest %d: %w", vmid, err))
	}
	st.Fallback.Guarded, st.Fallback.FirewallEnabled = nil, nil
	return s.SaveStatus(ctx)
}

// guardRules keep a guest from the nodes and let in what the App declares, and nothing else:
// what comes in is refused by default.
func guardRules(spec *v1alpha1.AppSpec, nodes []string) (rules []proxmox.FirewallRule) {
	rule := proxmox.FirewallRule{Enable: true, Iface: "net0", Comment: guardComment}
	if len(nodes) > 0 {
		out := rule
		out.Type, out.Action, out.Dest = "out", proxmox.FirewallReject, strings.Join(nodes, ",")
		rules = append(rules, out)
	}
	for _, p := range spec.GetPorts() {
		in := rule
		in.Type, in.Action = "in", proxmox.FirewallAccept
		in.Proto, in.DPort = strings.ToLower(p.GetProtocol()), proxmox.Text(strconv.Itoa(int(p.GetPort())))
		rules = append(rules, in)
	}
	return rules
}

func ours(rules []proxmox.FirewallRule) (mine []proxmox.FirewallRule) {
	for _, rule := range rules {
		if rule.Comment == guardComment {
			mine = append(mine, rule)
		}
	}
	return mine
}

func sameRule(a, b proxmox.FirewallRule) bool {
	return a.Type == b.Type && a.Action == b.Action && a.Enable == b.Enable && a.Dest == b.Dest && a.Source == b.Source &&
		a.Proto == b.Proto && a.DPort == b.DPort && a.SPort == b.SPort && a.Iface == b.Iface && a.Macro == b.Macro
}

// removeGuard removes our rules one by one: positions change with each.
func removeGuard(ctx context.Context, conn *cluster.Connection, node string, vmid int) error {
	for range maxGuardRules {
		rules, err := conn.API.GuestRules(ctx, node, vmid)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(rules, func(f proxmox.FirewallRule) bool { return f.Comment == guardComment })
		if i < 0 {
			return nil
		}
		if err := conn.API.DeleteGuestRule(ctx, node, vmid, int(rules[i].Pos), rules[i].Digest); err != nil {
			return err
		}
	}
	return fmt.Errorf("guest %d has more than %d rules with the comment %q", vmid, maxGuardRules, guardComment)
}

// nodeAddresses are those of the nodes and of the API, without doubles and in order.
func nodeAddresses(ctx context.Context, conn *cluster.Connection, cl *v1alpha1.Cluster) ([]string, error) {
	rows, err := conn.API.ClusterStatus(ctx)
	if err != nil && !proxmox.IsForbidden(err) {
		return nil, err
	}
	var addrs []netip.Addr
	add := func(text string) {
		if a, err := netip.ParseAddr(text); err == nil && !a.IsLoopback() && !slices.Contains(addrs, a.Unmap()) {
			addrs = append(addrs, a.Unmap())
		}
	}
	for _, row := range rows {
		add(row.IP)
	}
	for _, e := range cl.GetSpec().GetEndpoints() {
		if u, err := url.Parse(e); err == nil {
			add(u.Hostname())
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return texts, nil
}
