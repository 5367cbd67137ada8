package pvesim

import (
	"regexp"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// checkPermissions evaluates what the schema demands of the caller, in the order and with
// the texts of PVE::RPCEnvironment (check_api2_permissions).
func (c *call) checkPermissions(p *pveschema.Permissions) error {
	switch {
	case p != nil && p.User == "world", c.who.isRoot():
		return nil
	case p == nil:
		return permError("user != root@pam")
	case len(p.Check) > 0:
		_, err := c.evaluate(p.Check, false)
		return err
	default:
		return nil // any user; the handler checks what it touches
	}
}

// evaluate walks an expression: and, or, perm, perm-modify, userid-param, userid-group.
// Within an or a refusal is quiet: false and no error.
func (c *call) evaluate(expr []any, quiet bool) (bool, error) {
	op, _ := expr[0].(string)
	switch op {
	case "and":
		for _, sub := range expr[1:] {
			list, _ := sub.([]any)
			if ok, err := c.evaluate(list, false); err != nil {
				return c.refuse(quiet, err)
			} else if !ok {
				return false, nil
			}
		}
		return true, nil
	case "or":
		for _, sub := range expr[1:] {
			list, _ := sub.([]any)
			if ok, err := c.evaluate(list, true); ok || err != nil {
				return ok, err
			}
		}
		return c.refuse(quiet, permError(""))
	case "perm":
		return c.allowed(quiet, c.evaluatePerm(expr))
	case "perm-modify":
		path := normalize(c.expand(stringAt(expr, 1)))
		if path == "" {
			return false, nil // the method refuses the path itself
		}
		return c.allowed(quiet, c.mayGrant(path))
	case "userid-param":
		return c.evaluateUser(stringAt(expr, 1), quiet)
	case "userid-group":
		return c.evaluateGroup(expr, quiet)
	default:
		return false, permError(op)
	}
}

// refuse returns a refusal, or only false where it is quiet.
func (c *call) refuse(quiet bool, err error) (bool, error) {
	if quiet {
		return false, nil
	}
	return false, err
}

func (c *call) allowed(quiet bool, err error) (bool, error) {
	if err != nil {
		return c.refuse(quiet, err)
	}
	return true, nil
}

// evaluateUser compares the user of the request with the caller, or looks at its realm.
// A token is not its user.
func (c *call) evaluateUser(what string, quiet bool) (bool, error) {
	id := c.params["userid"]
	if msg := pveschema.CheckFormat("pve-userid", id); msg != "" {
		return false, die("%s", msg)
	}
	if what != "self" {
		_, realm, _ := strings.Cut(id, "@")
		return c.allowed(quiet, c.need("/access/realm/"+realm, what))
	}
	if _, err := c.node.access.User(id); err != nil {
		return c.refuse(quiet, err)
	}
	if id == c.who.id {
		return true, nil
	}
	return c.refuse(quiet, permError(""))
}

// evaluateGroup demands rights on all groups, or on those that the user is in or is put
// into: ["userid-group", privileges, "groups_param", "create" or "update"].
func (c *call) evaluateGroup(expr []any, quiet bool) (bool, error) {
	var privileges []string
	if len(expr) > 1 {
		privileges = stringList(expr[1])
	}
	groupsParam := ""
	if len(expr) > 3 && expr[2] == "groups_param" {
		groupsParam, _ = expr[3].(string)
	}
	id := c.params["userid"]
	if groupsParam != "create" {
		if _, err := c.node.access.User(id); err != nil {
			return c.refuse(quiet, err)
		}
	}
	if c.may("/access/groups", privileges...) {
		return true, nil
	}
	if groupsParam != "" {
		groups := c.list("groups")
		if len(groups) == 0 {
			return false, permError("/access/groups, " + strings.Join(privileges, "|"))
		}
		for _, g := range groups {
			if !c.may("/access/groups/"+g, privileges...) {
				return false, permError("/access/groups/" + g + ", " + strings.Join(privileges, "|"))
			}
		}
	}
	if groupsParam != "create" && !c.mayGroups(c.node.access.GroupsOf(id), privileges...) {
		return c.refuse(quiet, permError(""))
	}
	return true, nil
}

func stringAt(expr []any, i int) string {
	if i >= len(expr) {
		return ""
	}
	s, _ := expr[i].(string)
	return s
}

// evaluatePerm is ["perm", path template, privileges, "any", 1, "require_param", name].
func (c *call) evaluatePerm(expr []any) error {
	if len(expr) < 3 {
		return permError("")
	}
	anyOne := false
	for i := 3; i+1 < len(expr); i += 2 {
		switch expr[i] {
		case "any":
			anyOne = true
		case "require_param":
			if !c.has(stringAt(expr, i+1)) {
				return permError("")
			}
		}
	}
	path := c.expand(stringAt(expr, 1))
	if anyOne {
		return c.needAny(path, stringList(expr[2])...)
	}
	return c.need(path, stringList(expr[2])...)
}

var templateRE = regexp.MustCompile(`\{[^}]+\}`)

// expand fills {node} and the like from the request.
func (c *call) expand(template string) string {
	return templateRE.ReplaceAllStringFunc(template, func(name string) string { return c.params[name[1:len(name)-1]] })
}

func stringList(v any) []string {
	list, _ := v.([]any)
	out := make([]string, 0, len(list))
	for _, item := range list {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// need demands all privileges on the path; the refusal names the first that is missing.
func (c *call) need(path string, privileges ...string) error {
	if c.who.isRoot() {
		return nil
	}
	if missing := c.node.access.Missing(c.who.id, path, privileges...); missing != "" {
		return permError(normalize(path) + ", " + missing)
	}
	return nil
}

// needAny demands one of the privileges.
func (c *call) needAny(path string, privileges ...string) error {
	if c.may(path, privileges...) {
		return nil
	}
	return permError(normalize(path) + ", " + strings.Join(privileges, "|"))
}

// may reports whether the caller has one of the privileges.
func (c *call) may(path string, privileges ...string) bool {
	return c.who.isRoot() || c.node.access.HasAny(c.who.id, path, privileges...)
}
