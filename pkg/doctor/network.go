package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// uplink looks whether the bridge of the appliances' uplink is there.
func (e *examination) uplink(ctx context.Context) Check {
	return e.onEachNode(func(node string) Check {
		n, err := e.API.ListNetwork(ctx, node)
		if err != nil {
			return unseen("the network of node "+node, err)
		}
		i, ok := n.Find(e.Want.Uplink)
		switch {
		case !ok:
			return fail(fmt.Sprintf("node %s has no bridge %s that %s may use; it has %s", node, e.Want.Uplink, e.Identity, bridges(n)),
				"pvesh get /nodes/"+node+"/network --type any_bridge",
				"# name another bridge as wanBridge in the connection, or grant SDN.Use on /sdn/zones/localnetwork/"+e.Want.Uplink)
		case !bool(i.Active):
			return fail(fmt.Sprintf("bridge %s of node %s is not up", e.Want.Uplink, node), "ifup "+e.Want.Uplink, "ip -br link show "+e.Want.Uplink)
		}
		return Check{}
	}, "bridge %s is up", e.Want.Uplink)
}

func bridges(n proxmox.Network) string {
	var out []string
	for _, i := range n.Interfaces {
		if strings.Contains(strings.ToLower(i.Type), "bridge") {
			out = append(out, i.Iface)
		}
	}
	if len(out) == 0 {
		return "none"
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// networkStaged looks whether somebody has changes of the network pending: applying a bridge
// of ours would apply theirs, so the daemon waits.
func (e *examination) networkStaged(ctx context.Context) Check {
	return e.onEachNode(func(node string) Check {
		n, err := e.API.ListNetwork(ctx, node)
		if err != nil {
			return unseen("the network of node "+node, err)
		}
		if n.Changes != "" && !e.ours(n.Changes) {
			return fail(fmt.Sprintf("node %s has changes of its network that somebody made and did not apply; bridges wait for that: %s", node, changed(n.Changes)),
				"# look at them: pvesh get /nodes/"+node+"/network, or the node's page System, Network",
				"pvesh set /nodes/"+node+"/network   # applies them",
				"pvesh delete /nodes/"+node+"/network   # or throws them away")
		}
		return Check{}
	}, "no changes of a network are pending")
}

// sdn looks whether the nodes can carry Bridges by SDN, and whether somebody has changes of it
// pending: applying ours would apply theirs, so the daemon waits.
func (e *examination) sdn(ctx context.Context) Check {
	if len(e.Want.Networks) == 0 {
		return pass("no declared Bridge is made by SDN")
	}
	for _, node := range e.online {
		can, err := e.API.Capabilities(ctx, node)
		if err != nil {
			return unseen("the version of node "+node, err)
		}
		if !can.SDN {
			return fail(fmt.Sprintf("node %s has no software-defined network: Proxmox VE has it since 8.1", node),
				"apt install libpve-network-perl", "grep -q 'source /etc/network/interfaces.d' /etc/network/interfaces || echo 'source /etc/network/interfaces.d/*' >> /etc/network/interfaces",
				"# or set the Bridge's backend to linux")
		}
	}
	changes, err := e.API.SDNChanges(ctx)
	if err != nil {
		return unseen("the software-defined network", err)
	}
	var foreign []string
	for _, c := range changes {
		if !slices.Contains(e.Want.Networks, c.ID) { // the daemon is just making them
			foreign = append(foreign, c.String())
		}
	}
	if len(foreign) > 0 {
		return fail("the cluster's SDN has changes that somebody made and did not apply; Bridges wait for that: "+strings.Join(foreign, ", "),
			"# look at them: Datacenter, SDN",
			"pvesh set /cluster/sdn   # applies them",
			"pvesh create /cluster/sdn/rollback   # or throws them away")
	}
	return pass("the nodes have SDN, and no changes of it are pending")
}

// ours tells whether a diff only adds bridges that are declared: the daemon is just making
// them.
func (e *examination) ours(diff string) bool {
	for line := range strings.SplitSeq(diff, "\n") {
		name := ""
		switch f := strings.Fields(line); {
		case strings.HasPrefix(line, "---") || strings.HasPrefix(line, "+++"):
		case strings.HasPrefix(line, "-"):
			return false
		case len(f) > 1 && (f[0] == "+auto" || f[0] == "+iface"):
			name = f[1]
		}
		if name != "" && !slices.Contains(e.Want.Bridges, name) {
			return false
		}
	}
	return true
}

// changed is the lines of a unified diff that differ, bounded.
func changed(diff string) string {
	const most = 4
	var out []string
	for line := range strings.SplitSeq(diff, "\n") {
		if len(line) > 1 && (line[0] == '+' || line[0] == '-') && !strings.HasPrefix(line, "+++") && !strings.HasPrefix(line, "---") {
			out = append(out, line)
		}
	}
	if len(out) > most {
		out = append(out[:most], "...")
	}
	return strings.Join(out, " | ")
}

// guestAccess looks whether commands reach guests.
func (e *examination) guestAccess(ctx context.Context) Check {
	switch e.Access.Mode {
	case "console":
		return e.consoleAccess(ctx)
	case "ssh", "local":
		return e.onEachNode(func(node string) Check {
			if err := e.Access.Probe(ctx, node); err != nil {
				return e.noWay(node, err)
			}
			return Check{}
		}, "commands reach guests by way of their node (%s)", e.Access.Mode)
	}
	return fail("the connection names no way into guests", "# set guestAccess to ssh, local or console")
}

func (e *examination) noWay(node string, err error) Check {
	host := node
	if e.Access.Host != nil {
		host = e.Access.Host(node)
	}
	switch {
	case errors.Is(err, guest.ErrHostKey):
		return fail(fmt.Sprintf("node %s shows another ssh host key than the expected one: it was installed anew, or somebody else answers at %s", node, host),
			"ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
			fmt.Sprintf("# on this machine: ssh-keyscan -t ed25519 %s, compare the fingerprint, and put the line into the connection's host keys", host))
	case errors.Is(err, guest.ErrAuth):
		return fail(fmt.Sprintf("node %s refuses the ssh key", node),
			"# add the daemon's public key to /root/.ssh/authorized_keys (with the forced command of manifests/ssh, if you like)",
			"chmod 700 /root/.ssh && chmod 600 /root/.ssh/authorized_keys")
	case errors.Is(err, guest.ErrUnreachable):
		return fail(fmt.Sprintf("node %s cannot be reached by ssh at %s: %v", node, host, err), "systemctl enable --now ssh",
			"# from this machine: ssh -v root@"+host+" true; a node whose name does not resolve needs an entry in the connection's addresses")
	}
	return fail(fmt.Sprintf("commands do not reach node %s: %v", node, err), "# run the examination again; if it stays, look into journalctl -u ssh on the node")
}

// consoleAccess judges the console: an API token can open one since pve-container 6.1.3, a
// user with a password always can.
func (e *examination) consoleAccess(ctx context.Context) Check {
	if !strings.Contains(e.Identity, "!") {
		return pass("commands reach guests through the API's console")
	}
	fix := []string{
		"dpkg-query -W pve-container", "apt update && apt install pve-container",
		"# or give the connection a user and password instead of a token",
	}
	return e.onEachNode(func(node string) Check {
		can, err := e.API.Capabilities(ctx, node)
		switch {
		case err != nil:
			return unseen("the version of node "+node, err)
		case can.ConsoleTokens == proxmox.No:
			return fail(fmt.Sprintf("node %s lets no API token open a guest's console: that came with pve-container 6.1.3", node), fix...)
		case can.ConsoleTokens == proxmox.Unknown:
			return warn(fmt.Sprintf("an API token can open a guest's console since pve-container 6.1.3, and which one node %s has cannot be seen", node), fix...)
		}
		return Check{}
	}, "commands reach guests through the API's console, with a token")
}

// hostAccess looks whether bridges need a way onto the node that there is not.
func (e *examination) hostAccess(context.Context) Check {
	var odd []string
	for _, name := range e.Want.Bridges {
		if !proxmox.ValidIfaceName(name) {
			odd = append(odd, name)
		}
	}
	switch {
	case len(odd) == 0:
		return pass("every declared bridge can be made through the API")
	case e.Access.Probe == nil:
		return fail(fmt.Sprintf("the network API refuses the name %s (it takes 2 to %d of a-z, 0-9 and _), and guestAccess %s has no way onto the node to write it there",
			strings.Join(odd, ", "), proxmox.MaxIfaceName, e.Access.Mode),
			"# set guestAccess to ssh, or give the Bridge an interfaceName such as proxlan")
	}
	return pass("%s is written to the node's interfaces file (%s): its name is not one that the network API takes", strings.Join(odd, ", "), e.Access.Mode)
}
