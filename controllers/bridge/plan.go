package bridge

import (
	"fmt"
	"strings"

	"github.com/proximity-pve/proximity/pkg/proxmox"
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

// observed is a bridge on one node.
type observed struct {
	node    string
	listed  bool   // somebody defines an interface of that name
	ours    bool   // with our mark
	active  bool   // the kernel has it
	pending string // changes that somebody else staged and did not apply
	mtu     int
	// owed: it was here, and whether the reload that takes it out of the kernel happened is
	// not known. An interface that nobody defines is not listed, even while the kernel has it.
	owed bool
}

// action is what to do on a node.
type action string

const (
	actionWrite  action = "Write"  // define it
	actionReload action = "Reload" // make what is defined live
	actionRemove action = "Remove" // take the definition out
)

// blocked says why nothing may be done on a node.
type blocked struct{ reason, text string }

// plan lists what to do on one node; wanted false is deletion. It is pure.
func plan(iface string, wanted bool, mtu int, o observed) ([]action, *blocked) {
	if o.listed && !o.ours {
		if !wanted {
			return nil, nil
		}
		return nil, &blocked{"InterfaceTaken", fmt.Sprintf("node %s has an interface %s that is not ours; use another spec.interfaceName", o.node, iface)}
	}
	var todo []action
	switch {
	case wanted && (!o.listed || o.mtu != mtu):
		todo = []action{actionWrite, actionReload}
	case wanted && !o.active:
		todo = []action{actionReload}
	case !wanted && o.listed:
		todo = []action{actionRemove, actionReload}
	case !wanted && (o.active || o.owed):
		todo = []action{actionReload}
	}
	if len(todo) > 0 && o.pending != "" {
		return nil, &blocked{"ForeignPendingChanges", fmt.Sprintf(
			"node %s has pending network changes; applying ours would apply them too. Apply or revert them in Proxmox (Node > Network)", o.node)}
	}
	return todo, nil
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
