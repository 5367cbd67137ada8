package bridge

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Methods of writing a bridge.
const (
	methodAPI  = "API"
	methodHost = "HostFile"
)

// methodFor chooses how an interface of that name is written.
func methodFor(iface string) string {
	if proxmox.ValidIfaceName(iface) {
		return methodAPI
	}
	return methodHost
}

// Steps on a node.
const (
	actionWrite  = "Write"  // define it
	actionReload = "Reload" // make what is defined live
	actionRemove = "Remove" // take the definition out
)

// desired is the bridge as it should be, the same on every node.
type desired struct {
	iface    string
	mtu      int
	comments string      // with our mark, of the API's method
	block    guest.Block // of the host's method
}

// observed is the bridge on the nodes that were looked at.
type observed struct {
	iface string
	nodes []nodeSeen
}

// nodeSeen is a bridge on one node.
type nodeSeen struct {
	node     string
	listed   bool   // somebody defines an interface of that name
	ours     bool   // with our mark
	madeFor  string // uid of the Bridge that a mark of this installation names, ours or not
	active   bool   // the kernel has it
	pending  string // changes that somebody else staged and did not apply
	mtu      int
	comments string
	// file is /etc/network/interfaces, nil when it was not read.
	file []byte
	// noHost: the daemon cannot write the node's files.
	noHost bool
	// owed: it was here, and whether the reload that takes it out of the kernel happened is
	// not known. An interface that nobody defines is not listed, even while the kernel has it.
	owed bool
}

// step is one thing to do on a node.
type step struct {
	runtime.Step
	node string
}

func newStep(action, node, format string, args ...any) step {
	return step{runtime.Step{Action: action, Effect: runtime.InPlace, Text: fmt.Sprintf(format, args...)}, node}
}

// plan lists the steps on all nodes, one node after the other; nil desired is deletion. It
// does no I/O and reads no clock. What keeps one node from being changed keeps those after
// it, as in a reconcile.
func plan(d *desired, o observed) ([]step, *runtime.Blocked) {
	var steps []step
	for _, n := range o.nodes {
		todo, blocked := planNode(d, o.iface, n)
		if blocked != nil {
			return steps, blocked
		}
		steps = append(steps, todo...)
	}
	return steps, nil
}

// planNode lists the steps on one node.
func planNode(d *desired, iface string, o nodeSeen) ([]step, *runtime.Blocked) {
	if o.listed && !o.ours {
		if d == nil {
			return nil, nil // nothing of ours is there
		}
		if o.madeFor != "" { // and not ours, so not this Bridge's
			return nil, &runtime.Blocked{Reason: "UIDUnknown", Text: fmt.Sprintf(
				"interface %s of node %s was made for a Bridge of this installation with uid %s, which is not this one (the database was lost, or the object was deleted and the interface left); "+
					"run `proxctl admin rebuild` to take it back, or remove the interface", iface, o.node, o.madeFor)}
		}
		return nil, &runtime.Blocked{Reason: "InterfaceTaken", Text: fmt.Sprintf("node %s has an interface %s that is not ours; use another spec.interfaceName", o.node, iface)}
	}
	var todo []step
	reload := newStep(actionReload, o.node, "reload the network of node %s", o.node)
	switch {
	case d != nil && !o.listed:
		todo = []step{newStep(actionWrite, o.node, "define bridge %s on node %s%s", iface, o.node, inWhat(iface)), reload}
	case d != nil && d.differs(o) != "":
		todo = []step{newStep(actionWrite, o.node, "change %s of bridge %s on node %s%s", d.differs(o), iface, o.node, inWhat(iface)), reload}
	case d != nil && !o.active:
		todo = []step{reload}
	case d == nil && o.listed:
		todo = []step{newStep(actionRemove, o.node, "remove bridge %s from node %s%s", iface, o.node, inWhat(iface)), reload}
	case d == nil && (o.active || o.owed):
		todo = []step{reload}
	}
	switch {
	case len(todo) == 0:
	case o.pending != "":
		return nil, &runtime.Blocked{Reason: "ForeignPendingChanges", Text: fmt.Sprintf(
			"node %s has pending network changes; applying ours would apply them too. Apply or revert them in Proxmox (Node > Network)", o.node)}
	case methodFor(iface) == methodHost && o.noHost:
		return nil, hostAccessMissing(iface)
	}
	return todo, nil
}

// inWhat says where a bridge is written that the API does not take.
func inWhat(iface string) string {
	if methodFor(iface) == methodAPI {
		return ""
	}
	return " (a block of /etc/network/interfaces)"
}

func hostAccessMissing(iface string) *runtime.Blocked {
	return &runtime.Blocked{Reason: "HostAccessMissing", Text: fmt.Sprintf(
		"the Proxmox network API refuses the name %q (no hyphens), and the daemon has no host access to write it itself; set spec.interfaceName to an API-legal name such as %q, or configure guestAccess ssh",
		iface, legalName(iface))}
}

// differs says in words what of a bridge of ours is not as it should be, "" for nothing.
func (d *desired) differs(o nodeSeen) string {
	var what []string
	if o.mtu != d.mtu {
		what = append(what, "the MTU")
	}
	switch {
	case methodFor(d.iface) == methodAPI:
		if comparable(d.comments) && strings.TrimSpace(o.comments) != strings.TrimSpace(d.comments) {
			what = append(what, "the comment")
		}
	case o.file != nil && len(what) == 0:
		// An error would come from what is not ours in the file; writing tells it then.
		if now, err := guest.SetBlock(o.file, d.block); err == nil && !bytes.Equal(now, o.file) {
			what = append(what, "the options")
		}
	}
	return strings.Join(what, " and ")
}

// comparable tells whether Proxmox gives a comment back as it was written: other than
// plain lines of ASCII may come back in another form, and would be written again for ever.
func comparable(comments string) bool {
	if strings.ContainsFunc(comments, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
		return false
	}
	return !slices.ContainsFunc(strings.Split(comments, "\n"), func(line string) bool {
		return line == "" || line != strings.TrimSpace(line) || line[0] == '#'
	})
}

// foreignChanges returns the staged changes (a unified diff of /etc/network/interfaces)
// unless all of them are of our own interface: then a crash came between our write and
// our reload, and there is nothing foreign to apply by accident.
func foreignChanges(diff, iface, uid string) string {
	stanza := ""
	for line := range strings.Lines(diff) {
		if strings.HasPrefix(line, "+++") || strings.HasPrefix(line, "---") || strings.HasPrefix(line, "@@") {
			stanza = ""
			continue
		}
		changed := line[0] == '+' || line[0] == '-'
		text := strings.TrimRight(line, "\r\n")
		if changed || strings.HasPrefix(text, " ") {
			text = text[1:]
		}
		words := strings.Fields(text)
		if len(words) == 0 {
			stanza = ""
			continue
		}
		if words[0] == "iface" && len(words) > 1 {
			stanza = words[1]
		}
		ours := stanza == iface || len(words) == 2 && words[0] == "auto" && words[1] == iface ||
			strings.HasPrefix(words[0], "#") && strings.Contains(text, uid)
		if changed && !ours {
			return diff
		}
	}
	return ""
}
