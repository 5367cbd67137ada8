package operation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/marks"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// rebuild gives objects of a new database the uids that marks on guests and bridges name,
// and their reservations, so that they take back what was made for the objects of the
// database that was lost. It changes the database only; nothing outside is touched. The
// manifests must have been applied again: what exists is decided by them, not by marks.
//
// Everything is taken back in one transaction. What is not clear is refused by name and
// left as it is: two guests with one mark, an object that has another guest by now, a VMID
// that is not the one the spec names.
type rebuild struct {
	client runtime.Client
	conn   *cluster.Connection
}

// left is what was found of one object: a guest, or the interfaces of a Bridge.
type left struct {
	mark ownership.Mark
	node string // of a guest
	// nodes are those of a Bridge's interfaces.
	nodes []string
	macs  map[int]string // by number of the NIC
	// address is what a running App's guest has now, "" when that cannot be told.
	address string
}

func (l left) key() resource.Key {
	return resource.Key{Kind: l.mark.Kind, Namespace: l.mark.Namespace, Name: l.mark.Name}
}

// what names it for people.
func (l left) what() string {
	if l.mark.Kind == "Bridge" {
		return "the interfaces on " + strings.Join(l.nodes, ", ")
	}
	return fmt.Sprintf("guest %d on node %s", l.mark.VMID, l.node)
}

func (r *rebuild) label() string { return r.conn.Name }

func (r *rebuild) do(ctx context.Context, spec *v1alpha1.OperationSpec) (outcome, error) {
	dry, err := strconv.ParseBool(cmp.Or(spec.GetArguments()["dryRun"], "true"))
	if err != nil {
		return outcome{}, fmt.Errorf("argument dryRun %q: allowed are true and false", spec.GetArguments()["dryRun"])
	}
	var report rebuildReport
	found, err := r.guests(ctx, &report)
	if err != nil {
		return outcome{}, err
	}
	bridges, err := r.bridges(ctx, &report)
	if err != nil {
		return outcome{}, err
	}
	todo, err := r.match(ctx, append(found, bridges...), &report)
	if err != nil {
		return outcome{}, err
	}
	if !dry && len(todo) > 0 {
		if err := r.client.Transact(ctx, func(tx runtime.Tx) error { return takeBack(tx, r.conn.Name, todo) }); err != nil {
			return report.outcome(dry, 0), fmt.Errorf("nothing was taken back: %w", err)
		}
	}
	out := report.outcome(dry, len(todo))
	if report.refused > 0 {
		return out, errors.New(out.message)
	}
	return out, nil
}

// rebuildReport is what an operation tells of a rebuild.
type rebuildReport struct {
	lines   []string
	refused int
}

func (p *rebuildReport) say(format string, args ...any) {
	p.lines = append(p.lines, fmt.Sprintf(format, args...))
}

func (p *rebuildReport) refuse(format string, args ...any) {
	p.refused++
	p.say("refused: "+format, args...)
}

func (p *rebuildReport) outcome(dry bool, taken int) outcome {
	verb := "taken back"
	if dry {
		verb = "would be taken back (dry run)"
	}
	return outcome{
		message: fmt.Sprintf("%d %s, %d refused", taken, verb, p.refused),
		result:  map[string]string{"taken": strconv.Itoa(taken), "refused": strconv.Itoa(p.refused), "dryRun": strconv.FormatBool(dry)},
		log:     lastOf(p.lines, maxLog),
	}
}

// guests reads the mark of every container that there is: somebody may have removed its tags.
func (r *rebuild) guests(ctx context.Context, report *rebuildReport) ([]left, error) {
	rows, err := r.conn.API.ClusterResources(ctx, proxmox.GuestResources)
	if err != nil {
		return nil, fmt.Errorf("list guests: %w", err)
	}
	slices.SortFunc(rows, func(a, b proxmox.Resource) int { return cmp.Compare(a.VMID, b.VMID) })
	var found []left
	for _, row := range rows {
		if row.Type != "lxc" {
			continue
		}
		cfg, err := r.conn.API.LXCConfig(ctx, row.Node, int(row.VMID))
		if err != nil {
			report.refuse("guest %d on node %s cannot be read: %v", row.VMID, row.Node, err)
			continue
		}
		m := ownership.FromDescription(cfg.Description())
		switch {
		case m == nil || m.Installation != r.conn.Installation || m.Kind != "App" && m.Kind != "Appliance":
			continue
		case m.VMID != int(row.VMID):
			report.say("guest %d on node %s is a copy of guest %d (%s) and is left alone", row.VMID, row.Node, m.VMID, m)
			continue
		}
		l := left{mark: *m, node: row.Node, macs: map[int]string{}}
		for n := range 2 {
			if nic, ok, err := cfg.NIC(n); ok && err == nil {
				l.macs[n] = nic.HWAddr
			}
		}
		if m.Kind == "App" {
			l.address = r.addressOf(ctx, l)
		}
		found = append(found, l)
	}
	return found, nil
}

// addressOf asks a running guest for its address; the reservation itself went with the
// database. One that is stopped gets the next free one.
func (r *rebuild) addressOf(ctx context.Context, l left) string {
	ifs, err := r.conn.API.LXCInterfaces(ctx, l.node, l.mark.VMID)
	if err != nil {
		return ""
	}
	for _, i := range ifs {
		if strings.EqualFold(i.HWAddr, l.macs[0]) {
			address, _, _ := strings.Cut(i.Inet, "/")
			return address
		}
	}
	return ""
}

// bridges finds the interfaces of this connection's Bridges that have another uid.
func (r *rebuild) bridges(ctx context.Context, report *rebuildReport) ([]left, error) {
	all, err := runtime.List[*v1alpha1.Bridge](ctx, r.client, "Bridge", "")
	if err != nil {
		return nil, err
	}
	nodes, err := r.conn.API.Nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	at := map[string]map[string][]string{} // nodes by Bridge and uid
	for _, n := range nodes {
		if !n.Online() {
			report.say("node %s is offline: bridges on it are not looked at", n.Node)
			continue
		}
		net, err := r.conn.API.ListNetwork(ctx, n.Node)
		if err != nil {
			return nil, fmt.Errorf("list the network of %s: %w", n.Node, err)
		}
		for _, b := range all {
			name := b.GetMetadata().GetName()
			i, ok := net.Find(b.GetSpec().GetInterfaceName())
			if !ok || b.GetSpec().GetBackend() == common.BackendSDN || cmp.Or(b.GetSpec().GetClusterRef().GetName(), cluster.DefaultName) != r.conn.Name {
				continue
			}
			if uid := marks.BridgeUID(r.conn.Installation, name, i.Comments); uid != "" {
				if at[name] == nil {
					at[name] = map[string][]string{}
				}
				at[name][uid] = append(at[name][uid], n.Node)
			}
		}
	}
	if err := r.networks(ctx, all, at); err != nil {
		return nil, err
	}
	var found []left
	for name, uids := range at {
		for uid, on := range uids {
			found = append(found, left{mark: ownership.Mark{Installation: r.conn.Installation, Kind: "Bridge", Name: name, UID: uid}, nodes: on})
		}
	}
	return found, nil
}

// networks finds the vnets of this connection's Bridges by SDN; one is on every node.
func (r *rebuild) networks(ctx context.Context, all []*v1alpha1.Bridge, at map[string]map[string][]string) error {
	mine := slices.DeleteFunc(slices.Clone(all), func(b *v1alpha1.Bridge) bool {
		return b.GetSpec().GetBackend() != common.BackendSDN || cmp.Or(b.GetSpec().GetClusterRef().GetName(), cluster.DefaultName) != r.conn.Name
	})
	if len(mine) == 0 {
		return nil
	}
	vnets, err := r.conn.API.SDNVNets(ctx, proxmox.SDNStaged)
	if err != nil {
		return fmt.Errorf("list the SDN vnets: %w", err)
	}
	nodes, err := r.conn.API.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	for _, b := range mine {
		for _, v := range vnets {
			uid := marks.BridgeUID(r.conn.Installation, b.GetMetadata().GetName(), v.Alias)
			if v.VNet != b.GetSpec().GetInterfaceName() || uid == "" {
				continue
			}
			var on []string
			for _, n := range nodes {
				if len(b.GetSpec().GetNodes()) == 0 || slices.Contains(b.GetSpec().GetNodes(), n.Node) {
					on = append(on, n.Node)
				}
			}
			at[b.GetMetadata().GetName()] = map[string][]string{uid: on}
		}
	}
	return nil
}
