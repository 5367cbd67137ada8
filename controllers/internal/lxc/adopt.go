package lxc

import (
	"fmt"
	"strings"

	"github.com/proximity-pve/proximity/pkg/doctor"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// ReasonReadOnly is why an object waits that is only looked at.
const ReasonReadOnly = "ReadOnly"

// nothingToAdopt: what is to be taken over must be there, and what was taken over and is
// gone had data that nobody but its owner can bring back.
func nothingToAdopt(want ownership.Mark) *Blocked {
	return &Blocked{Reason: "GuestToAdoptMissing", Text: fmt.Sprintf(
		"there is no guest %d, and spec.adopt says to take over one that is there; restore it, or set spec.adopt to false to have a new one made", want.VMID)}
}

// adoptable tells whether a guest may be taken over: it is nobody's, or was made for an
// object of this kind and name that the database does not know. Copies of our guests and
// another installation's are never taken.
func adoptable(d *Desired, want ownership.Mark, o Observed) bool {
	if !d.Adopt {
		return false
	}
	m := o.Mark
	return o.Relation == ownership.Unmarked ||
		o.Relation == ownership.OtherObject && m.VMID == want.VMID && m.Kind == want.Kind && m.Namespace == want.Namespace && m.Name == want.Name
}

// planAdoption marks the guest and then makes it what is desired. The marks come alone, so
// that a crash in between leaves a guest that is known.
func planAdoption(d *Desired, o Observed) ([]Step, *Blocked) {
	marked := markChange(d, o.Config)
	adopt := NewStep(ActionAdopt, runtime.InPlace, "spec.adopt is set", "mark %s (%s) on node %s as that of %s", Name(d.Mark.VMID), orUnnamed(o.Config.Hostname()), o.Node, d.Mark)
	adopt.Change = &marked
	if weak := doctor.Weaker(o.Config); len(weak) > 0 && !d.AdoptWeaker {
		if !d.ReadOnly {
			return nil, weaker(d.Mark, weak)
		}
		adopt.Text += ", which takes spec.adoptWeaker, for it has less isolation (" + strings.Join(weak, ", ") + ")"
	}
	rest, blocked := planChange(d, o)
	if blocked != nil {
		return nil, blocked
	}
	if len(rest) > 0 && rest[0].Action == ActionUpdate {
		change, keys := configChange(d, o.Config)
		for key := range marked.Set {
			delete(change.Set, key)
		}
		if rest = rest[1:]; !change.Empty() {
			rest = append([]Step{updateStep(d, o, change, without(keys, marked.Set))}, rest...)
		}
	}
	return append([]Step{adopt}, rest...), nil
}

// weaker: who may adopt may not by that have a guest that nobody would be given.
func weaker(m ownership.Mark, weak []string) *Blocked {
	return &Blocked{Reason: "GuestToAdoptWeaker", Text: fmt.Sprintf(
		"guest %d has less isolation than one that is made here (%s); take that away in Proxmox, or set spec.adoptWeaker to true, which takes the verb weaken", m.VMID, strings.Join(weak, ", "))}
}

func without(keys []string, marks map[string]string) (kept []string) {
	for _, key := range keys {
		if _, mark := marks[key]; !mark {
			kept = append(kept, key)
		}
	}
	return kept
}

// ReadOnly turns the steps of an object that is only looked at into what it says; nil when
// there is nothing to do.
func ReadOnly(steps []Step) *Blocked {
	if len(steps) == 0 {
		return nil
	}
	texts := make([]string, len(steps))
	for i, s := range steps {
		texts[i] = s.Text
	}
	return &Blocked{Reason: ReasonReadOnly, Text: "spec.readOnly is set, so this is not done: " + strings.Join(texts, "; ") + "; set spec.readOnly to false to have it done"}
}
