package bridge

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/marks"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// nodeBridge is one bridge on one node.
type nodeBridge struct {
	conn    *cluster.Connection
	node    string
	iface   string
	mtu     int
	comment string
	policy  string // for settings that were changed by hand
	mark    ownership.Mark
}

// on is the object's bridge on a node ("" for what is the same on all).
func on(b *v1alpha1.Bridge, conn *cluster.Connection, node string) nodeBridge {
	spec := b.GetSpec()
	return nodeBridge{
		conn: conn, node: node, iface: spec.GetInterfaceName(), mtu: common.BridgeMTU(b), comment: spec.GetComment(), policy: spec.GetDriftPolicy(),
		mark: markOf(b, conn),
	}
}

func markOf(b *v1alpha1.Bridge, conn *cluster.Connection) ownership.Mark {
	return ownership.Mark{Installation: conn.Installation, Kind: kind, Name: b.GetMetadata().GetName(), UID: b.GetMetadata().GetUid()}
}

// blockMark identifies our block of /etc/network/interfaces.
func (n nodeBridge) blockMark() string { return n.mark.Installation + "/" + n.mark.UID }

func (n nodeBridge) block() guest.Block {
	b := guest.Block{
		Mark: n.blockMark(), Iface: n.iface, Method: "manual",
		Options: []string{"bridge-ports none", "bridge-stp off", "bridge-fd 0"},
	}
	if n.mtu != 0 {
		b.Options = append(b.Options, "mtu "+strconv.Itoa(n.mtu))
	}
	return b
}

func (n nodeBridge) spec() proxmox.InterfaceSpec {
	comments := n.mark.Comment()
	if n.comment != "" {
		comments = n.comment + "\n" + comments
	}
	return proxmox.InterfaceSpec{Iface: n.iface, Type: "bridge", Autostart: true, MTU: n.mtu, Comments: comments}
}

// desired is the bridge as the object asks for it.
func (n nodeBridge) desired() *desired {
	return &desired{iface: n.iface, mtu: n.mtu, comments: n.spec().Comments, block: n.block(), policy: n.policy}
}

func (n nodeBridge) observe(ctx context.Context) (nodeSeen, error) {
	net, err := n.conn.API.ListNetwork(ctx, n.node)
	if err != nil {
		return nodeSeen{}, fmt.Errorf("list the network of %s: %w", n.node, err)
	}
	o := nodeSeen{node: n.node, noHost: n.conn.Host == nil, pending: foreignChanges(net.Changes, n.iface, n.mark.UID)}
	o.staged = methodFor(n.iface) == methodAPI && net.Changes != "" && o.pending == ""
	if i, ok := net.Find(n.iface); ok {
		o.madeFor = marks.BridgeUID(n.mark.Installation, n.mark.Name, i.Comments)
		m := ownership.FromComment(i.Comments)
		o.listed, o.active, o.mtu, o.comments = true, bool(i.Active), int(i.MTU), i.Comments
		o.ours = m != nil && m.Installation == n.mark.Installation && m.UID == n.mark.UID
	}
	switch {
	case methodFor(n.iface) == methodAPI:
	case n.conn.Host == nil:
		// The API shows the block's last line as the interface's comment.
		i, _ := net.Find(n.iface)
		o.ours = strings.Contains(i.Comments, n.blockMark())
	default:
		file, err := n.conn.Host.ReadInterfaces(ctx, n.node)
		if err != nil {
			return o, fmt.Errorf("read /etc/network/interfaces of %s: %w", n.node, err)
		}
		o.ours, o.file = guest.HasBlock(file, n.blockMark()), file
		o.listed = o.listed || o.ours
	}
	return o, nil
}

// act takes one action; a reload by the API returns its UPID. Settings in keep are left as
// they were seen.
func (n nodeBridge) act(ctx context.Context, a string, seen nodeSeen, keep []string) (upid string, err error) {
	if methodFor(n.iface) == methodHost {
		return "", n.actOnHost(ctx, a)
	}
	switch a {
	case actionWrite:
		net, err := n.conn.API.ListNetwork(ctx, n.node)
		if err != nil {
			return "", err
		}
		if _, ok := net.Find(n.iface); ok {
			spec := n.spec()
			if slices.Contains(keep, settingMTU) {
				spec.MTU = seen.mtu
			}
			if slices.Contains(keep, settingComment) {
				spec.Comments = strings.TrimSpace(seen.comments)
			}
			if spec.MTU == 0 {
				spec.Delete = []string{"mtu"}
			}
			return "", n.conn.API.UpdateNetwork(ctx, n.node, spec)
		}
		return "", n.conn.API.CreateNetwork(ctx, n.node, n.spec())
	case actionRemove:
		return "", n.conn.API.DeleteNetwork(ctx, n.node, n.iface)
	}
	u, err := n.conn.API.ReloadNetwork(ctx, n.node)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// actOnHost edits the file that the API reads too, where Proxmox lists and keeps the block.
func (n nodeBridge) actOnHost(ctx context.Context, a string) error {
	if a == actionReload {
		return n.conn.Host.ReloadNetwork(ctx, n.node)
	}
	was, err := n.conn.Host.ReadInterfaces(ctx, n.node)
	if err != nil {
		return err
	}
	now := guest.RemoveBlock(was, n.blockMark())
	if a == actionWrite {
		if now, err = guest.SetBlock(was, n.block()); err != nil {
			return err
		}
	}
	return n.conn.Host.WriteInterfaces(ctx, n.node, was, now)
}

// verify looks whether the reload did what it should: Proxmox may call it a success with
// an interface missing. It returns what it saw.
func (n nodeBridge) verify(ctx context.Context, s *session, wanted bool) (nodeSeen, error) {
	o, err := n.observe(ctx)
	if err != nil {
		return o, err
	}
	if o.active == wanted {
		if wanted {
			s.Normal(ctx, "Active", "%s is up on node %s", n.iface, n.node)
		}
		return o, nil
	}
	return o, runtime.Waiting(DefaultProbe, "NotActive", "the network of %s was reloaded, and %s is not as it should be (up: %v)", n.node, n.iface, o.active)
}
