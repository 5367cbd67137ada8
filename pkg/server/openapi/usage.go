package openapi

import "github.com/proximity-pve/proximity/pkg/resource"

var usageQuery = []string{"range", "hour, day, week, month or year: history, too."}

// usage adds the route and the schema of usage.
func (d *document) usage() {
	text, number, count := object{"type": "string"}, object{"type": "number"}, object{"type": "integer", "format": "int32"}
	all := func(schema object, names ...string) object {
		p := object{}
		for _, n := range names {
			p[n] = schema
		}
		return object{"type": "object", "properties": p}
	}
	point := all(number, "cpu", "memory", "disk", "netIn", "netOut")
	point["properties"].(object)["time"] = object{"type": "string", "format": "date-time"}
	item := object{"current": all(number, "cpu", "cpuLimit", "memory", "memoryLimit", "disk", "diskLimit"), "history": object{"type": "array", "items": point}}
	for _, n := range []string{"kind", "namespace", "name", "cluster", "node", "observedAt"} {
		item[n] = text
	}
	for _, n := range []string{"guests", "ageSeconds", "stepSeconds", "historyAgeSeconds"} {
		item[n] = count
	}
	d.byName["UsageList"] = object{"type": "object", "description": "Processors in cores, sizes in bytes, traffic in bytes a second.", "properties": object{
		"apiVersion": object{"type": "string", "enum": []string{resource.APIVersion}},
		"kind":       object{"type": "string", "enum": []string{"UsageList"}},
		"items":      object{"type": "array", "items": object{"type": "object", "properties": item}},
		"pending":    object{"type": "integer", "format": "int32", "description": "Graphs that are being read and are not in the answer: ask again."},
		"note":       text,
	}}
	d.add(root+"/usage", "get", "readUsage", "Tell what Apps, nodes, namespaces or appliances use",
		answer("A report for each.", refTo("UsageList")), query(append([]string{
			"of", "apps (default), nodes, namespaces or appliances.", "namespace", "Of Apps.", "name", "Of one.", "cluster", "Of nodes.",
		}, usageQuery...)...))
}

// usageOf adds the usage of an object that is there.
func (d *document) usageOf(k *resource.Kind, item string) {
	switch k.Name {
	case "App", "Appliance", "Namespace", "Cluster":
		d.add(item+"/usage", "get", "read"+k.Name+"Usage", "Tell what it uses; of a Cluster, its nodes", answer("Its report.", refTo("UsageList")), query(usageQuery...))
	}
}
