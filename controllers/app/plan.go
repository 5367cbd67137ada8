package app

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Steps beside the guest's own.
const (
	// ActionServe and ActionDrop are the appliance's: the App's names and its reservation.
	ActionServe = "ServeNames"
	ActionDrop  = "DropNames"
	// ActionProvision carries out packages, files, environment and commands in the guest.
	ActionProvision = "Provision"
)

// desired is what an App asks for outside, with everything that it depends on resolved.
type desired struct {
	guest *lxc.Desired
	// host is what its appliance is to serve; its address is invalid as long as none is reserved.
	appliance string
	host      appliance.Host
	zone      string
	// uplink: the guest is to be on the uplink, where the appliance serves nothing.
	uplink bool
	// provision identifies what is to be carried out in the guest, work says it in words.
	provision, work string
}

// observed is what was seen of an App outside.
type observed struct {
	guest lxc.Observed
	// appliance serves host for the App (nil: nothing); unserved says why that does not work.
	appliance string
	host      *appliance.Host
	unserved  string
	// looked: somebody has looked at the appliance since the daemon started; before that
	// nothing new is known of what it serves.
	looked bool
	// provision identifies what was last carried out in the guest.
	provision string
	// pending are the settings that count from the guest's next start on.
	pending common.Pending
	// unplaced identifies why no node fits, and unplacedText says it.
	unplaced, unplacedText string
}

// plan lists the steps from observed to desired, in order; nil desired is deletion. It does
// no I/O and reads no clock. The guest is started only when the appliance serves it: without
// DHCP and DNS it would come up lame.
func plan(d *desired, want ownership.Mark, o observed) ([]lxc.Step, *lxc.Blocked) {
	if d == nil {
		steps, blocked := lxc.Plan(nil, want, o.guest)
		if blocked == nil && o.host != nil {
			steps = append(steps, byAppliance(o.appliance, lxc.NewStep(ActionDrop, runtime.InPlace, "",
				"drop the names and the reservation of %s", o.host.Hostname)))
		}
		return steps, blocked
	}
	guest, blocked := lxc.Plan(d.guest, want, o.guest)
	if blocked != nil {
		return nil, blocked
	}
	var steps []lxc.Step
	serve := !d.uplink && !served(d, o)
	for _, s := range guest {
		if s.Action == lxc.ActionStart && serve {
			steps, serve = append(steps, serveStep(d)), false
		}
		steps = append(steps, s)
	}
	if serve {
		steps = append(steps, serveStep(d))
	}
	if d.guest.Running && (!o.guest.Present || o.provision != d.provision) {
		steps = append(steps, lxc.NewStep(ActionProvision, runtime.InPlace, "", "%s", d.work))
	}
	return steps, nil
}

// served tells whether the appliance serves what is desired.
func served(d *desired, o observed) bool {
	return o.host != nil && o.unserved == "" && o.appliance == d.appliance && o.host.Hostname == d.host.Hostname &&
		strings.EqualFold(o.host.MAC, d.host.MAC) && o.host.Address == d.host.Address
}

func serveStep(d *desired) lxc.Step {
	address := "the next free address"
	if d.host.Address.IsValid() {
		address = d.host.Address.String()
	}
	return byAppliance(d.appliance, lxc.NewStep(ActionServe, runtime.InPlace, "",
		"reserve %s and serve it as %s.lan.%s", address, d.host.Hostname, d.zone))
}

func byAppliance(name string, s lxc.Step) lxc.Step {
	s.By = "Appliance " + name
	return s
}

// desire resolves what an App asks for; node is where its guest would be made.
func desire(a *v1alpha1.App, secrets secretEnv, cl *v1alpha1.Cluster, m ownership.Mark, n network, node string) (*desired, error) {
	spec, st := a.GetSpec(), a.GetStatus()
	size, err := common.AppSize(a)
	if err != nil {
		return nil, runtime.Stalled("InvalidResources", "%v", err)
	}
	running := spec.GetState() != stateStopped
	zone := n.appliance.GetSpec().GetDns().GetZone()
	uplink := onUplink(a)
	nic := proxmox.NIC{Name: "eth0", Bridge: n.bridge, HWAddr: st.GetMac(), IP: "dhcp", MTU: n.mtu, Firewall: st.GetFallback().GetNicFirewall()}
	nameserver, search := n.lan.String(), zone
	if uplink {
		nic.Bridge, nic.MTU, nic.Firewall = uplinkBridge(n, cl), 0, true
		nameserver, search = "", ""
	}
	return &desired{
		guest: &lxc.Desired{
			Mark: m, Node: node, Hostname: spec.GetHostname(), Storage: cl.GetSpec().GetStorage(), Sizes: size,
			Template: templateOf(a, cl), Templates: common.Templates(cl), MadeFrom: st.GetTemplate(),
			NICs:       map[int]proxmox.NIC{0: nic},
			Nameserver: nameserver, SearchDomain: search, NodeResolver: uplink, Moving: st.GetFallback().GetMoving(),
			OnBoot: running, Startup: "order=20", Nesting: true, Running: running,
			ShellConsole: lxc.ByConsole(cl),
			DriftPolicy:  spec.GetDriftPolicy(), Applied: st.GetApplied(), Adopt: spec.GetAdopt(),
			AdoptWeaker: spec.GetAdoptWeaker(), ReadOnly: spec.GetReadOnly(),
		},
		appliance: n.appliance.GetMetadata().GetName(), zone: zone, uplink: uplink,
		host: appliance.Host{
			Key: routing.Key(a.GetMetadata()), Hostname: spec.GetHostname(), MAC: st.GetMac(), Address: addressOf(a),
		},
		provision: provisionHash(spec, secrets), work: workOf(spec),
	}, nil
}

// workOf says in words what Provision carries out.
func workOf(spec *v1alpha1.AppSpec) string {
	var parts []string
	if p := spec.GetPackages(); len(p) > 0 {
		parts = append(parts, "install "+strings.Join(p, ", "))
	}
	if n := len(spec.GetFiles()); n > 0 {
		parts = append(parts, "write "+counted(n, "file"))
	}
	if len(spec.GetEnv()) > 0 {
		parts = append(parts, "set the environment")
	}
	if n := len(spec.GetCommands()); n > 0 {
		parts = append(parts, "run "+counted(n, "command"))
	}
	if len(parts) == 0 {
		return "note in the guest that nothing is to be installed"
	}
	return strings.Join(parts, ", ")
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// see adds what is known beside the guest to what was seen of it.
func (r *reconciler) see(a *v1alpha1.App, applianceName string, guest lxc.Observed) observed {
	// Asked in this order: the first look may be published in between.
	o := observed{guest: guest, appliance: applianceName, provision: a.GetStatus().GetProvisionedHash(), looked: r.Board.Looked(applianceName)}
	o.host, o.unserved = servedBy(r.Board.Get(applianceName), applianceName, routing.Key(a.GetMetadata()))
	return o
}

// servedBy is what an appliance serves under a key, and what is wrong with it.
func servedBy(st *live.State, name, key string) (host *appliance.Host, why string) {
	if st == nil {
		return nil, fmt.Sprintf("appliance %s is not ready", name)
	}
	for i, h := range st.Input.Hosts {
		if h.Key == key {
			host = &st.Input.Hosts[i]
		}
	}
	rejected, refused := st.Rejected[live.RejectedKey("host", key)]
	switch {
	case !st.InSync:
		why = fmt.Sprintf("appliance %s is not ready", name)
	case refused:
		why = fmt.Sprintf("appliance %s refuses the App's host record: %s", name, rejected.Reason)
	case host == nil:
		why = fmt.Sprintf("appliance %s does not serve the App yet", name)
	case !st.Observation.DNS.OK:
		why = fmt.Sprintf("DHCP and DNS of appliance %s do not answer: %s", name, st.Observation.DNS.Reason)
	}
	return host, why
}

// Plan implements runtime's Options.Plan.
func (r *reconciler) Plan(ctx context.Context, p runtime.Planning[*v1alpha1.App]) (runtime.Plan, error) {
	o, _ := p.Seen.(observed)
	if p.Deleted {
		return r.planDeletion(p.Object, o)
	}
	n, err := findNetwork(ctx, p.Client, p.Object)
	if err != nil {
		return runtime.Plan{}, err
	}
	conn, cl, err := common.Connect(ctx, p.Client, r.Clusters, n.appliance.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return runtime.Plan{}, err
	}
	node, placed, err := r.foresee(ctx, p, conn, cl, n)
	if err != nil {
		return runtime.Plan{}, err
	}
	m := mark(p.Object, conn)
	m.VMID = cmp.Or(m.VMID, int(p.Object.GetSpec().GetVmid()))
	secrets, err := r.openEnv(ctx, p.Client, p.Object)
	if err != nil {
		return runtime.Plan{}, err
	}
	d, err := desire(p.Object, secrets, cl, m, n, node)
	if err != nil {
		return runtime.Plan{}, err
	}
	steps, blocked := plan(d, m, o)
	made := runtime.Plan{Steps: lxc.Public(steps), Blocked: blocked, Notes: append(lxc.Withheld(d.guest, o.guest), common.DriftNotes(d.guest, o.guest)...)}
	made.Notes = append(made.Notes, uplinkNotes(p.Object, n, cl)...)
	if !o.guest.Present {
		made.Notes = append(made.Notes, placed...)
	} else if why := misplaced(p.Object, o.guest.Node); why != "" {
		made.Notes = append(made.Notes, fmt.Sprintf("%s stays on node %s, though %s: it is not moved by itself", lxc.Name(m.VMID), o.guest.Node, why))
	}
	if p.Object.GetSpec().GetReadOnly() {
		made.Notes = append(made.Notes, "spec.readOnly is set: nothing of this is done until it is false")
	}
	made.Steps = append(made.Steps, common.RestartSteps(m.VMID, steps, o.pending, o.guest)...)
	return made, nil
}

func (r *reconciler) planDeletion(a *v1alpha1.App, o observed) (runtime.Plan, error) {
	if a.GetStatus().GetVmid() == 0 {
		return runtime.Plan{}, nil
	}
	if a.GetSpec().GetDeletionPolicy() == "Orphan" {
		return common.Orphaned(fmt.Sprintf("guest %d", a.GetStatus().GetVmid())), nil
	}
	conn, err := r.Clusters.Get(a.GetStatus().GetCluster())
	if err != nil {
		return runtime.Plan{}, runtime.Stalled("NotConnected", "%v", err)
	}
	steps, blocked := plan(nil, mark(a, conn), o)
	return runtime.Plan{Steps: lxc.Public(steps), Blocked: blocked}, nil
}

// addressOf is the address that is or will be reserved for an App, invalid when it is still open.
func addressOf(a *v1alpha1.App) netip.Addr {
	addr, _ := netip.ParseAddr(cmp.Or(a.GetSpec().GetNetwork().GetAddress(), a.GetStatus().GetAddress()))
	return addr
}
