package pvesim

import (
	"maps"
	"slices"
)

// sectionOption is one option of a type in a section configuration (storage.cfg, SDN).
type sectionOption struct{ optional, fixed bool }

// sectionType are the options of one type, "type" and the id left out.
type sectionType map[string]sectionOption

// options makes a sectionType of names: "!x" is required, "=x" cannot be changed later.
func options(names ...string) sectionType {
	out := sectionType{}
	for _, name := range names {
		o := sectionOption{optional: true}
		for name[0] == '!' || name[0] == '=' {
			if name[0] == '!' {
				o.optional = false
			} else {
				o.fixed = true
			}
			name = name[1:]
		}
		out[name] = o
	}
	return out
}

// check refuses options that the type does not have, changes of fixed ones and, at
// create, missing ones (PVE::SectionConfig, check_config).
func (t sectionType) check(given map[string]string, create bool) error {
	for _, key := range slices.Sorted(maps.Keys(given)) {
		o, known := t[key]
		switch {
		case !known:
			return die("unexpected property '%s'", key)
		case o.fixed && !create:
			return die("can't change value of fixed parameter '%s'", key)
		}
	}
	if !create {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(t)) {
		if _, ok := given[key]; !ok && !t[key].optional {
			return die("missing value for required option '%s'", key)
		}
	}
	return nil
}

// checkDelete refuses the deletion of what is unknown, required, fixed or set in the same
// request (delete_from_config).
func (t sectionType) checkDelete(names []string, given map[string]string) error {
	for _, key := range names {
		o, known := t[key]
		_, set := given[key]
		switch {
		case !known:
			return die("no such option '%s'", key)
		case !o.optional:
			return die("unable to delete required option '%s'", key)
		case o.fixed:
			return die("unable to delete fixed option '%s'", key)
		case set:
			return die("cannot set and delete property '%s' at the same time!", key)
		}
	}
	return nil
}

// sectionParams are the parameters of a request that are options, without those named.
func (c *call) sectionParams(without ...string) map[string]string {
	out := map[string]string{}
	for key, v := range c.params {
		if !slices.Contains(without, key) {
			out[key] = v
		}
	}
	return out
}
