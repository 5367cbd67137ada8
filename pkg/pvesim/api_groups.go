package pvesim

import (
	"maps"
	"slices"
	"strings"
)

func listGroups(c *call) (result, error) {
	out := []map[string]any{}
	groups := c.node.access.Groups()
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if !c.may("/access/groups/"+name, "User.Modify", "Sys.Audit", "Group.Allocate") {
			continue
		}
		row := map[string]any{"groupid": name, "users": strings.Join(groups[name].Users, ",")}
		if comment := groups[name].Comment; comment != "" {
			row["comment"] = comment
		}
		out = append(out, row)
	}
	return result{data: out}, nil
}

func getGroup(c *call) (result, error) {
	g, ok := c.node.access.Groups()[c.params["groupid"]]
	if !ok {
		return result{}, die("group '%s' does not exist", c.params["groupid"])
	}
	row := map[string]any{"members": append([]string{}, g.Users...)}
	if g.Comment != "" {
		row["comment"] = g.Comment
	}
	return result{data: row}, nil
}

func createGroup(c *call) (result, error) {
	return result{}, failing("create group failed", c.node.access.CreateGroup(c.params["groupid"], c.params["comment"]))
}

func updateGroup(c *call) (result, error) {
	return result{}, failing("update group failed", c.node.access.UpdateGroup(c.params["groupid"], c.text("comment")))
}

func deleteGroup(c *call) (result, error) {
	return result{}, failing("delete group failed", c.node.access.DeleteGroup(c.params["groupid"]))
}
