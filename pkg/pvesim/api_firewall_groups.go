package pvesim

import (
	"maps"
	"slices"

	"github.com/proximity-pve/proximity/pkg/pvesim/firewall"
)

// named lists things by name with comment and the digest of the list, as the API lists
// groups and sets.
func named(key string, comments map[string]string) ([]map[string]any, string) {
	var fields []map[string]string
	for _, name := range slices.Sorted(maps.Keys(comments)) {
		f := map[string]string{key: name}
		if comments[name] != "" {
			f["comment"] = comments[name]
		}
		fields = append(fields, f)
	}
	digest := firewall.Digest(fields...)
	rows := []map[string]any{}
	for _, f := range fields {
		row := map[string]any{"digest": digest}
		for k, v := range f {
			row[k] = v
		}
		rows = append(rows, row)
	}
	return rows, digest
}

func groupRows(s *firewall.Scope) ([]map[string]any, string) {
	comments := map[string]string{}
	for name, g := range s.Groups {
		comments[name] = g.Comment
	}
	return named("group", comments)
}

func listSecurityGroups(c *call) (result, error) {
	var rows []map[string]any
	c.node.firewall.View(firewall.Datacenter, func(own, _ *firewall.Scope) { rows, _ = groupRows(own) })
	return result{data: rows}, nil
}

// createSecurityGroup makes a group, or renames one.
func createSecurityGroup(c *call) (result, error) {
	name, from := c.params["group"], c.params["rename"]
	err := c.node.firewall.Change(firewall.Datacenter, func(own, _ *firewall.Scope) error {
		if from == "" {
			if own.Groups[name] != nil {
				return paramError("group", "Security group '"+name+"' already exists")
			}
			own.Groups[name] = &firewall.Group{Comment: c.params["comment"]}
			return nil
		}
		_, digest := groupRows(own)
		g := own.Groups[from]
		switch {
		case c.assertDigest(digest) != nil:
			return c.assertDigest(digest)
		case g == nil:
			return paramError("group", "Security group '"+from+"' does not exist")
		case own.Groups[name] != nil && name != from:
			return paramError("group", "Security group '"+name+"' does already exist")
		}
		if comment, ok := c.params["comment"]; ok {
			g.Comment = comment
		}
		delete(own.Groups, from)
		own.Groups[name] = g
		return nil
	})
	if err == nil && from != "" && from != name {
		err = c.node.firewall.RenameGroup(from, name)
	}
	return result{}, fwError(err)
}

func deleteSecurityGroup(c *call) (result, error) {
	return c.fwChange(func(own, _ *firewall.Scope) error {
		rules, err := c.fwRules(own)
		if err != nil {
			return err
		}
		if len(*rules) > 0 {
			return die("Security group '%s' is not empty", c.params["group"])
		}
		delete(own.Groups, c.params["group"])
		return nil
	})
}
