package pvesim

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

func listRoles(c *call) (result, error) {
	out := []map[string]any{}
	roles := c.node.access.Roles()
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		out = append(out, map[string]any{"roleid": name, "special": number(roles[name].Special), "privs": strings.Join(roles[name].Privileges, ",")})
	}
	return result{data: out}, nil
}

func getRole(c *call) (result, error) {
	role, ok := c.node.access.Roles()[c.params["roleid"]]
	if !ok {
		return result{}, die("role '%s' does not exist", c.params["roleid"])
	}
	out := map[string]any{}
	for _, priv := range role.Privileges {
		out[priv] = 1
	}
	return result{data: out}, nil
}

// reservedRoleRE are the names of built-in roles to come.
var reservedRoleRE = regexp.MustCompile(`(?i)^PVE`)

func createRole(c *call) (result, error) {
	id := c.params["roleid"]
	if reservedRoleRE.MatchString(id) {
		return result{}, paramError("roleid", "cannot use role ID starting with the (case-insensitive) 'PVE' namespace")
	}
	if c.node.access.HasRole(id) {
		return result{}, die("create role failed: role '%s' already exists", id)
	}
	return result{}, failing("create role failed", c.node.access.SetRole(id, c.list("privs")))
}

func updateRole(c *call) (result, error) {
	return result{}, c.node.access.UpdateRole(c.params["roleid"], c.list("privs"), c.flag("append"))
}

func deleteRole(c *call) (result, error) {
	return result{}, c.node.access.DeleteRole(c.params["roleid"])
}
