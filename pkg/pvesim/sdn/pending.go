package sdn

import (
	"maps"
	"slices"
)

// Pending is an object with what will change when the configuration is applied.
type Pending struct {
	ID      string
	Current Object // what runs; type and the parent also of a new one
	State   string // new, changed, deleted or "" for none
	Changes Object // new values, "deleted" for one that goes
}

// Compare tells for each object what is pending (PVE::Network::SDN, pending_config); with
// changed only those that something is.
func Compare(running, declared map[string]Object, changed bool) []Pending {
	ids := map[string]bool{}
	for id := range running {
		ids[id] = true
	}
	for id := range declared {
		ids[id] = true
	}
	var out []Pending
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		p := compare(id, running[id], declared[id])
		if p.State != "" || !changed {
			out = append(out, p)
		}
	}
	return out
}

func compare(id string, running, declared Object) Pending {
	p := Pending{ID: id, Current: Object{}, Changes: Object{}}
	maps.Copy(p.Current, running)
	switch {
	case len(declared) == 0:
		p.State = "deleted"
		return p
	case len(running) == 0:
		p.State = "new"
	}
	for key, v := range running {
		next, kept := declared[key]
		if !kept {
			p.Changes[key] = "deleted"
		}
		if (!kept || next != v) && p.State == "" {
			p.State = "changed"
		}
	}
	for key, v := range declared {
		if key == "type" || key == "vnet" {
			p.Current[key] = v
			continue
		}
		if old, ok := running[key]; !ok || old != v {
			p.Changes[key] = v
			if p.State == "" {
				p.State = "changed"
			}
		}
	}
	return p
}
