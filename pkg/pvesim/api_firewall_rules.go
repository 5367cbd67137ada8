package pvesim

import (
	"maps"
	"strconv"

	"github.com/proximity-pve/proximity/pkg/pvesim/firewall"
)

// fwRules returns the list that a request is about: a group's or the scope's own.
func (c *call) fwRules(own *firewall.Scope) (*[]firewall.Rule, error) {
	if !c.has("group") {
		return &own.Rules, nil
	}
	g := own.Groups[c.params["group"]]
	if g == nil {
		return nil, die("no such security group '%s'", c.params["group"])
	}
	return &g.Rules, nil
}

// ruleFields are the properties of a rule as they count for the digest.
func ruleFields(r firewall.Rule, own, dc *firewall.Scope) map[string]string {
	out := maps.Clone(map[string]string(r))
	if v := firewall.IPVersion(r, own, dc); v != 0 {
		out["ipversion"] = strconv.Itoa(v)
	}
	return out
}

// ruleRows shows rules with their positions and the digest of the list.
func ruleRows(rules []firewall.Rule, own, dc *firewall.Scope) ([]map[string]any, string) {
	fields := make([]map[string]string, len(rules))
	for i, r := range rules {
		fields[i] = ruleFields(r, own, dc)
	}
	digest := firewall.Digest(fields...)
	rows := []map[string]any{}
	for i, f := range fields {
		row := map[string]any{"pos": i, "digest": digest}
		for key, v := range f {
			row[key] = v
			if n, err := strconv.Atoi(v); err == nil && (key == "enable" || key == "ipversion") {
				row[key] = n
			}
		}
		rows = append(rows, row)
	}
	return rows, digest
}

// fwRows reads the list of a request.
func (c *call) fwRows() (rows []map[string]any, err error) {
	c.node.firewall.View(c.fwPlaceOf().scope, func(own, dc *firewall.Scope) {
		var rules *[]firewall.Rule
		if rules, err = c.fwRules(own); err == nil {
			rows, _ = ruleRows(*rules, own, dc)
		}
	})
	return rows, err
}

func listFirewallRules(c *call) (result, error) {
	rows, err := c.fwRows()
	return result{data: rows}, err
}

func errNoRule(pos int) error { return die("no rule at position %d", pos) }

func getFirewallRule(c *call) (result, error) {
	rows, err := c.fwRows()
	if err != nil {
		return result{}, err
	}
	pos := c.number("pos", 0)
	if pos >= len(rows) {
		return result{}, errNoRule(pos)
	}
	return result{data: rows[pos]}, nil
}

// createFirewallRule puts a rule in front of the others, whatever pos says, and disabled
// unless the request enables it.
func createFirewallRule(c *call) (result, error) {
	place := c.fwPlaceOf()
	return c.fwChange(func(own, dc *firewall.Scope) error {
		rules, err := c.fwRules(own)
		if err != nil {
			return err
		}
		r := firewall.Rule{}
		r.Set(c.params)
		if err := firewall.Verify(r, place.env, own, dc); err != nil {
			return err
		}
		if r["enable"] == "" {
			r["enable"] = "0"
		}
		*rules = append([]firewall.Rule{r}, *rules...)
		return nil
	})
}

func updateFirewallRule(c *call) (result, error) {
	place := c.fwPlaceOf()
	return c.fwChange(func(own, dc *firewall.Scope) error {
		rules, pos, err := c.fwRuleAt(own, dc)
		if err != nil {
			return err
		}
		if to := c.number("moveto", pos); to != pos {
			moveRule(rules, pos, to)
			return nil
		}
		r := firewall.Rule(maps.Clone(map[string]string((*rules)[pos])))
		r.Set(c.params)
		if err := r.Unset(c.list("delete")); err != nil {
			return err
		}
		if err := firewall.Verify(r, place.env, own, dc); err != nil {
			return err
		}
		(*rules)[pos] = r
		return nil
	})
}

// fwRuleAt finds the rule of a request that changes it, with its digest checked.
func (c *call) fwRuleAt(own, dc *firewall.Scope) (*[]firewall.Rule, int, error) {
	rules, err := c.fwRules(own)
	if err != nil {
		return nil, 0, err
	}
	if _, digest := ruleRows(*rules, own, dc); c.assertDigest(digest) != nil {
		return nil, 0, c.assertDigest(digest)
	}
	pos := c.number("pos", 0)
	if pos >= len(*rules) {
		return nil, 0, errNoRule(pos)
	}
	return rules, pos, nil
}

// moveRule puts the rule at from before the one at to, behind all if there is none.
func moveRule(rules *[]firewall.Rule, from, to int) {
	var out []firewall.Rule
	for i, r := range *rules {
		if i == from {
			continue
		}
		if i == to {
			out = append(out, (*rules)[from])
		}
		out = append(out, r)
	}
	if to >= len(*rules) {
		out = append(out, (*rules)[from])
	}
	*rules = out
}

func deleteFirewallRule(c *call) (result, error) {
	return c.fwChange(func(own, dc *firewall.Scope) error {
		rules, pos, err := c.fwRuleAt(own, dc)
		if err != nil {
			return err
		}
		*rules = append((*rules)[:pos:pos], (*rules)[pos+1:]...)
		return nil
	})
}
