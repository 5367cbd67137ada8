package pvesim

import (
	"regexp"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// checkPermissions evaluates what the schema demands of the caller.
func (c *call) checkPermissions(p *pveschema.Permissions) error {
	switch {
	case p != nil && p.User == "world", c.who.isRoot():
		return nil
	case p == nil:
		return permError("user != root@pam")
	case len(p.Check) > 0:
		return c.evaluate(p.Check)
	default:
		return nil // any user; the handler checks what it touches
	}
}

// evaluate walks an expression: and, or, perm, perm-modify, userid-param, userid-group.
func (c *call) evaluate(expr []any) error {
	op, _ := expr[0].(string)
	switch op {
	case "and", "or":
		for _, sub := range expr[1:] {
			list, _ := sub.([]any)
			err := c.evaluate(list)
			if op == "and" && err != nil {
				return err
			}
			if op == "or" && err == nil {
				return nil
			}
		}
		if op == "or" {
			return permError("")
		}
		return nil
	case "perm":
		return c.evaluatePerm(expr)
	case "perm-modify":
		return c.need(c.params["path"], "Permissions.Modify")
	case "userid-param":
		if what, _ := expr[1].(string); what != "self" {
			_, realm, _ := strings.Cut(c.params["userid"], "@")
			return c.need("/access/realm/"+realm, what)
		}
		if c.params["userid"] == c.who.user() {
			return nil
		}
		return permError("")
	case "userid-group":
		return c.needAny("/access/groups", stringList(expr[1])...)
	default:
		return permError(op)
	}
}

// evaluatePerm is ["perm", path template, privileges, "any", 1, "require_param", name].
func (c *call) evaluatePerm(expr []any) error {
	template, _ := expr[1].(string)
	privileges := stringList(expr[2])
	anyOne := false
	for i := 3; i+1 < len(expr); i += 2 {
		switch expr[i] {
		case "any":
			anyOne = true
		case "require_param":
			name, _ := expr[i+1].(string)
			if !c.has(name) {
				return permError("")
			}
		}
	}
	path := c.expand(template)
	if anyOne {
		return c.needAny(path, privileges...)
	}
	return c.need(path, privileges...)
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
