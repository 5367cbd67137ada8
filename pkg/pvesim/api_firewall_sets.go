package pvesim

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/firewall"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

func ipsetRows(s *firewall.Scope) ([]map[string]any, string) {
	comments := map[string]string{}
	for name, set := range s.IPSets {
		comments[name] = set.Comment
	}
	return named("name", comments)
}

func listIPSets(c *call) (result, error) {
	var rows []map[string]any
	c.node.firewall.View(c.fwPlaceOf().scope, func(own, _ *firewall.Scope) { rows, _ = ipsetRows(own) })
	return result{data: rows}, nil
}

// createIPSet makes a set, or renames one.
func createIPSet(c *call) (result, error) {
	name, from := c.params["name"], c.params["rename"]
	return c.fwChange(func(own, _ *firewall.Scope) error {
		if from == "" {
			if own.IPSets[name] != nil {
				return paramError("name", "IPSet '"+name+"' already exists")
			}
			own.IPSets[name] = &firewall.IPSet{Comment: c.params["comment"]}
			return nil
		}
		_, digest := ipsetRows(own)
		set := own.IPSets[from]
		switch {
		case c.assertDigest(digest) != nil:
			return c.assertDigest(digest)
		case set == nil:
			return paramError("name", "IPSet '"+from+"' does not exist")
		case own.IPSets[name] != nil && name != from:
			return paramError("name", "IPSet '"+name+"' does already exist")
		}
		if comment, ok := c.params["comment"]; ok {
			set.Comment = comment
		}
		delete(own.IPSets, from)
		own.IPSets[name] = set
		return nil
	})
}

func (c *call) ipset(own *firewall.Scope) (*firewall.IPSet, error) {
	if set := own.IPSets[c.params["name"]]; set != nil {
		return set, nil
	}
	return nil, die("no such IPSet '%s'", c.params["name"])
}

func deleteIPSet(c *call) (result, error) {
	return c.fwChange(func(own, _ *firewall.Scope) error {
		set, err := c.ipset(own)
		if err != nil {
			return err
		}
		if len(set.Entries) > 0 && !c.flag("force") {
			return die("IPSet '%s' is not empty", c.params["name"])
		}
		delete(own.IPSets, c.params["name"])
		return nil
	})
}

func entryRows(set *firewall.IPSet) ([]map[string]any, string) {
	var fields []map[string]string
	for _, e := range set.Entries {
		f := map[string]string{"cidr": e.CIDR}
		if e.NoMatch {
			f["nomatch"] = "1"
		}
		if e.Comment != "" {
			f["comment"] = e.Comment
		}
		fields = append(fields, f)
	}
	digest := firewall.Digest(fields...)
	rows := []map[string]any{}
	for _, f := range fields {
		row := map[string]any{"digest": digest, "cidr": f["cidr"]}
		if f["nomatch"] != "" {
			row["nomatch"] = 1
		}
		if f["comment"] != "" {
			row["comment"] = f["comment"]
		}
		rows = append(rows, row)
	}
	return rows, digest
}

func listIPSetEntries(c *call) (result, error) {
	var rows []map[string]any
	var err error
	c.node.firewall.View(c.fwPlaceOf().scope, func(own, _ *firewall.Scope) {
		var set *firewall.IPSet
		if set, err = c.ipset(own); err == nil {
			rows, _ = entryRows(set)
		}
	})
	return result{data: rows}, err
}

func getIPSetEntry(c *call) (result, error) {
	res, err := listIPSetEntries(c)
	if err != nil {
		return result{}, err
	}
	for _, row := range res.data.([]map[string]any) {
		if row["cidr"] == c.params["cidr"] {
			return result{data: row}, nil
		}
	}
	return result{}, errNoEntry()
}

func errNoEntry() error { return paramError("cidr", "no such IP/Network") }

var zeroPrefixRE = regexp.MustCompile(`/0+$`)

func createIPSetEntry(c *call) (result, error) {
	cidr := c.params["cidr"]
	return c.fwChange(func(own, dc *firewall.Scope) error {
		set, err := c.ipset(own)
		if err != nil {
			return err
		}
		if pveschema.IsAlias(cidr) {
			if !firewall.HasAlias(cidr, own, dc) {
				return die("no such alias '%s'", strings.TrimPrefix(strings.TrimPrefix(cidr, "dc/"), "guest/"))
			}
		} else {
			cidr = firewall.CleanCIDR(cidr)
		}
		if slices.ContainsFunc(set.Entries, func(e firewall.Entry) bool { return e.CIDR == cidr }) {
			return paramError("cidr", "address '"+cidr+"' already exists")
		}
		if zeroPrefixRE.MatchString(cidr) {
			return paramError("cidr", "a zero prefix is not allowed in ipset entries")
		}
		set.Entries = append([]firewall.Entry{{CIDR: cidr, NoMatch: c.flag("nomatch"), Comment: c.params["comment"]}}, set.Entries...)
		return nil
	})
}

func updateIPSetEntry(c *call) (result, error) {
	return c.fwChange(func(own, _ *firewall.Scope) error {
		set, err := c.ipset(own)
		if err != nil {
			return err
		}
		if _, digest := entryRows(set); c.assertDigest(digest) != nil {
			return c.assertDigest(digest)
		}
		for i := range set.Entries {
			if set.Entries[i].CIDR == c.params["cidr"] {
				set.Entries[i].NoMatch, set.Entries[i].Comment = c.flag("nomatch"), c.params["comment"]
				return nil
			}
		}
		return errNoEntry()
	})
}

// deleteIPSetEntry removes an entry; one that is not there is no error.
func deleteIPSetEntry(c *call) (result, error) {
	return c.fwChange(func(own, _ *firewall.Scope) error {
		set, err := c.ipset(own)
		if err != nil {
			return err
		}
		if _, digest := entryRows(set); c.assertDigest(digest) != nil {
			return c.assertDigest(digest)
		}
		set.Entries = slices.DeleteFunc(set.Entries, func(e firewall.Entry) bool { return e.CIDR == c.params["cidr"] })
		return nil
	})
}

func aliasFields(a firewall.Alias) map[string]string {
	f := map[string]string{"name": a.Name, "cidr": a.CIDR, "ipversion": strconv.Itoa(pveschema.AddressFamily(a.CIDR))}
	if a.Comment != "" {
		f["comment"] = a.Comment
	}
	return f
}

func aliasRows(s *firewall.Scope) ([]map[string]any, string) {
	var fields []map[string]string
	for _, name := range slices.Sorted(maps.Keys(s.Aliases)) {
		fields = append(fields, aliasFields(s.Aliases[name]))
	}
	digest := firewall.Digest(fields...)
	rows := []map[string]any{}
	for _, f := range fields {
		row := aliasRow(f)
		row["digest"] = digest
		rows = append(rows, row)
	}
	return rows, digest
}

func aliasRow(f map[string]string) map[string]any {
	row := map[string]any{}
	for key, v := range f {
		row[key] = v
	}
	row["ipversion"], _ = strconv.Atoi(f["ipversion"])
	return row
}

func listAliases(c *call) (result, error) {
	var rows []map[string]any
	c.node.firewall.View(c.fwPlaceOf().scope, func(own, _ *firewall.Scope) { rows, _ = aliasRows(own) })
	return result{data: rows}, nil
}

func getAlias(c *call) (result, error) {
	var row map[string]any
	c.node.firewall.View(c.fwPlaceOf().scope, func(own, _ *firewall.Scope) {
		if a, ok := own.Aliases[strings.ToLower(c.params["name"])]; ok {
			row = aliasRow(aliasFields(a))
		}
	})
	if row == nil {
		return result{}, paramError("name", "no such alias")
	}
	return result{data: row}, nil
}

func createAlias(c *call) (result, error) {
	name := c.params["name"]
	return c.fwChange(func(own, _ *firewall.Scope) error {
		if _, ok := own.Aliases[strings.ToLower(name)]; ok {
			return paramError("name", "alias '"+name+"' already exists")
		}
		own.Aliases[strings.ToLower(name)] = firewall.Alias{Name: name, CIDR: firewall.CleanCIDR(c.params["cidr"]), Comment: c.params["comment"]}
		return nil
	})
}

func updateAlias(c *call) (result, error) {
	name := strings.ToLower(c.params["name"])
	return c.fwChange(func(own, _ *firewall.Scope) error {
		if _, digest := aliasRows(own); c.assertDigest(digest) != nil {
			return c.assertDigest(digest)
		}
		if _, ok := own.Aliases[name]; !ok {
			return paramError("name", "no such alias")
		}
		a := firewall.Alias{Name: c.params["name"], CIDR: firewall.CleanCIDR(c.params["cidr"]), Comment: c.params["comment"]}
		to := name
		if rename := strings.ToLower(c.params["rename"]); rename != "" && rename != name {
			if _, taken := own.Aliases[rename]; taken {
				return paramError("name", "alias '"+c.params["rename"]+"' already exists")
			}
			a.Name, to = c.params["rename"], rename
		}
		delete(own.Aliases, name)
		own.Aliases[to] = a
		return nil
	})
}

func deleteAlias(c *call) (result, error) {
	return c.fwChange(func(own, _ *firewall.Scope) error {
		if _, digest := aliasRows(own); c.assertDigest(digest) != nil {
			return c.assertDigest(digest)
		}
		delete(own.Aliases, strings.ToLower(c.params["name"]))
		return nil
	})
}
