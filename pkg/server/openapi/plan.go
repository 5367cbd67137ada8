package openapi

import "github.com/proximity-pve/proximity/pkg/resource"

// plan adds the route and the schema of plans.
func (d *document) plan() {
	text := object{"type": "string"}
	properties := func(names ...string) object {
		p := object{}
		for _, n := range names {
			p[n] = text
		}
		return p
	}
	change := properties("path")
	change["old"] = object{"description": "Value before; left out: not set. Sensitive values are \"***\"."}
	change["new"] = object{"description": "Value after; left out: not set."}
	step := properties("action", "text", "by", "if")
	step["effect"] = object{"type": "string", "enum": []string{"in place", "restart", "recreate", "data loss"}}
	item := properties("kind", "namespace", "name")
	item["result"] = object{"type": "string", "enum": []string{"created", "configured", "unchanged", "deleted", "affected"}}
	item["changes"] = object{"type": "array", "items": object{"type": "object", "properties": change}}
	item["steps"] = object{"type": "array", "items": object{"type": "object", "properties": step},
		"description": "What would be done outside, in order; by names another object whose controller does it, if what it depends on."}
	item["blocked"] = object{"type": "object", "properties": properties("reason", "message"), "description": "Why nothing would be done outside."}
	item["notes"] = object{"type": "array", "items": text}
	item["observation"] = object{"type": "object", "description": "What the steps start from.", "properties": object{
		"state":      object{"type": "string", "enum": []string{"observed", "never", "none"}},
		"at":         object{"type": "string", "format": "date-time"},
		"ageSeconds": object{"type": "integer", "format": "int32"},
	}}
	item["live"], item["planned"] = object{"type": "object"}, object{"type": "object"}
	d.byName["PlanResultList"] = object{"type": "object", "properties": object{
		"apiVersion": object{"type": "string", "enum": []string{resource.APIVersion}},
		"kind":       object{"type": "string", "enum": []string{"PlanResultList"}},
		"items":      object{"type": "array", "items": object{"type": "object", "properties": item}},
	}}
	d.add(root+"/plan", "post", "planSet", "Tell what applying a set of documents would do, and change nothing",
		answer("A result per document, then other objects that are affected.", refTo("PlanResultList")),
		query("fieldManager", "Who would own the fields.", "force", "1: take fields over that other managers set to other values.", "source", "Name of the text in error messages."),
		body("application/yaml", text, true))
}

// planOf adds the plan of an object that is there.
func (d *document) planOf(k *resource.Kind, item string) {
	d.add(item+"/plan", "get", "plan"+k.Name, "Tell what there is to do outside for an object, or for its deletion, and change nothing",
		answer("Its result, then other objects that are affected.", refTo("PlanResultList")), query("delete", "1: plan the deletion."))
}
