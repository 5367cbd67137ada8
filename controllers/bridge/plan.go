package bridge

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Methods of writing a bridge.
const (
	methodAPI  = "API"
	methodHost = "HostFile"
	methodSDN  = "SDN"
)

// methodOf is how a Bridge is written.
func methodOf(b *v1alpha1.Bridge) string {
	if b.GetSpec().GetBackend() == common.BackendSDN {
		return methodSDN
	}
	return methodFor(b.GetSpec().GetInterfaceName())
}

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
	policy   string      // for settings that were changed by hand
}

// Settings of a bridge, by the names under which the status keeps what was set last.
const (
	settingMTU     = "mtu"
	settingComment = "comment"
	settingOptions = "options" // all of the block in the interfaces file
)

// settings are those that the object decides.
func (d *desired) settings() map[string]string {
	if methodFor(d.iface) == methodHost {
		return map[string]string{settingOptions: strings.Join(d.block.Options, "\n")}
	}
	return map[string]string{settingMTU: strconv.Itoa(d.mtu), settingComment: d.comments}
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
	unwanted bool   // spec.nodes leaves the node out
	mtu      int
	comments string
	// staged: changes of ours wait for a reload. What is listed has them already.
	staged bool
	// file is /etc/network/interfaces, nil when it was not read.
	file []byte
	// noHost: the daemon cannot write the node's files.
	noHost bool
	// owed: it was here, and whether the reload that takes it out of the kernel happened is
	// not known. An interface that nobody defines is not listed, even while the kernel has it.
	owed bool
	// applied are the settings as they were set last, nil when that is not known.
	applied map[string]string
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
// does no I/O and reads no clock. What keeps one node from being changed keeps none of the
// others: the first such reason comes with their steps.
func plan(d *desired, o observed) (steps []step, first *runtime.Blocked) {
	for _, n := range o.nodes {
		todo, blocked := planNode(d, o.iface, n)
		if first == nil {
			first = blocked
		}
		steps = append(steps, todo...)
	}
	return steps, first
}

// planNode lists the steps on one node.
func planNode(d *desired, iface string, o nodeSeen) ([]step, *runtime.Blocked) {
	if o.unwanted {
		d = nil
	}
	if o.listed && !o.ours {
		if d == nil {
			return nil, nil // nothing of ours is there
		}
		if o.madeFor != "" { // and not ours, so not this Bridge's
			return nil, &runtime.Blocked{Reason: reasonUIDUnknown, Text: fmt.Sprintf(
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
	case d != nil && len(d.changes(o)) > 0:
		todo = []step{newStep(actionWrite, o.node, "change %s of bridge %s on node %s%s", inWords(d.changes(o)), iface, o.node, inWhat(iface)), reload}
	case d != nil && (!o.active || o.staged):
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

// differs lists the settings of a bridge of ours that are not as they should be.
func (d *desired) differs(o nodeSeen) (keys []string) {
	if methodFor(d.iface) == methodHost {
		if o.file == nil {
			if o.mtu != d.mtu { // all that the API shows of the block
				return []string{settingOptions}
			}
			return nil
		}
		// An error would come from what is not ours in the file; writing tells it then.
		if now, err := guest.SetBlock(o.file, d.block); err == nil && !bytes.Equal(now, o.file) {
			return []string{settingOptions}
		}
		return nil
	}
	if o.mtu != d.mtu {
		keys = append(keys, settingMTU)
	}
	if comparable(d.comments) && strings.TrimSpace(o.comments) != strings.TrimSpace(d.comments) {
		keys = append(keys, settingComment)
	}
	return keys
}

// drifted lists those that somebody changed by hand and the policy leaves so.
func (d *desired) drifted(o nodeSeen) []string {
	return driftOf(d.policy, d.differs(o), d.settings(), o.applied)
}

// changes lists those that are to be changed.
func (d *desired) changes(o nodeSeen) []string { return without(d.differs(o), d.drifted(o)...) }

// driftOf lists the keys that differ though nothing else has been asked for since they were
// set; none under the policy correct. One of which that is not known is set.
func driftOf(policy string, differs []string, want, applied map[string]string) (keys []string) {
	if policy == "" || policy == lxc.DriftCorrect {
		return nil
	}
	for _, key := range differs {
		if was, known := applied[key]; known && was == want[key] {
			keys = append(keys, key)
		}
	}
	return keys
}

// inWords names settings in a sentence.
func inWords(keys []string) string {
	words := make([]string, len(keys))
	for i, key := range keys {
		words[i] = "the " + cmp.Or(map[string]string{settingMTU: "MTU"}[key], key)
	}
	return strings.Join(words, " and ")
}

func without(list []string, drop ...string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(drop, s) })
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
