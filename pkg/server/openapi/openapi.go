package openapi

import (
	"encoding/json"
	"fmt"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/docs"
)

const root = "/apis/" + resource.Group + "/" + resource.Version

// Document returns the OpenAPI document as JSON. version is the daemon's.
func Document(registry *resource.Registry, version string) ([]byte, error) {
	d := &document{schemas: schemas{registry: registry, byName: object{}}, paths: object{}}
	status := d.ref((&v1alpha1.Status{}).ProtoReflect().Descriptor())
	for _, k := range registry.Kinds() {
		d.kind(k)
	}
	for _, r := range SystemRoutes {
		d.system(r)
	}
	for _, r := range AuthRoutes {
		d.auth(r)
	}
	d.fixed()
	raw, err := json.MarshalIndent(object{
		"openapi": "3.0.3",
		"info": object{
			"title": "Proximity", "version": version,
			"description": "Resources are shaped as in Kubernetes; errors are Status objects.",
			"license":     object{"name": "Apache-2.0"},
		},
		"paths":    d.paths,
		"security": []object{{"token": []string{}}},
		"components": object{
			"schemas":         d.byName,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}},
			"responses": object{"Error": object{
				"description": "What went wrong, with a reason for programs and a cause per wrong field.",
				"content":     object{"application/json": object{"schema": status}},
			}},
		},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the OpenAPI document: %w", err)
	}
	return append(raw, '\n'), nil
}

type document struct {
	schemas
	paths object
}

// add adds one method of a path. Parameters in braces are declared.
func (d *document) add(path, method, id, summary string, parts ...object) {
	op := object{"operationId": id, "summary": summary}
	for _, part := range parts {
		for k, v := range part {
			op[k] = v
		}
	}
	item, ok := d.paths[path].(object)
	if !ok {
		item = object{}
		if params := pathParameters(path); len(params) > 0 {
			item["parameters"] = params
		}
		d.paths[path] = item
	}
	item[method] = op
}

// kind adds every path of a kind.
func (d *document) kind(k *resource.Kind) {
	schema := d.ref(k.Descriptor())
	d.byName[k.Name+"List"] = object{
		"type":     "object",
		"required": []string{"apiVersion", "kind", "metadata", "items"},
		"properties": object{
			"apiVersion": object{"type": "string", "enum": []string{resource.APIVersion}},
			"kind":       object{"type": "string", "enum": []string{k.Name + "List"}},
			"metadata": object{"type": "object", "properties": object{
				"resourceVersion": object{"type": "string"}, "continue": object{"type": "string"}, "remainingItemCount": object{"type": "integer"},
			}},
			"items": object{"type": "array", "items": schema},
		},
	}
	listed := answer("The objects, or with watch=1 a stream of {\"type\",\"object\"} lines.", refTo(k.Name+"List"))
	one := answer("The object.", schema)
	collection, everywhere := root+"/"+k.Plural, root+"/"+k.Plural
	if k.Namespaced {
		collection = root + "/namespaces/{namespace}/" + k.Plural
		d.add(everywhere, "get", "list"+k.Name+"ForAllNamespaces", "List or watch objects of all namespaces", listed, listParameters)
	}
	d.add(collection, "get", "list"+k.Name, "List or watch objects", listed, listParameters)
	item := collection + "/{name}"
	defer d.mark(k, everywhere, collection, item, item+"/status")
	d.add(item, "get", "read"+k.Name, "Read an object", one)
	d.add(item, "delete", "delete"+k.Name, "Ask for deletion; finalizers may delay it", one,
		query(append(append([]string{"uid", "Uid the object must have."}, forced...), dryRun...)...), body("application/json", object{"type": "object"}, false))
	hasStatus := k.Descriptor().Fields().ByJSONName("status") != nil
	if hasStatus {
		d.add(item+"/status", "get", "read"+k.Name+"Status", "Read an object", one)
	}
	if k.System {
		return
	}
	d.planOf(k, item)
	d.usageOf(k, item)
	d.valuesOf(k, item)
	d.add(collection, "post", "create"+k.Name, "Create an object", created(schema), query(dryRun...), body("application/json", schema, true))
	d.add(item, "put", "replace"+k.Name, "Replace an object's metadata and spec", one, query(append(append([]string{}, forced...), dryRun...)...), body("application/json", schema, true))
	d.add(item, "patch", "apply"+k.Name, "Create an object or set the fields that the body has (apply), or change one by a patch of its JSON", one,
		query(append([]string{"fieldManager", "Who owns the fields.", "force", "1: change an object also when a Sync keeps it as its repository says; with apply, take fields over that other managers set to other values."}, dryRun...)...),
		bodies(object{
			"application/apply-patch+yaml": schema, "application/merge-patch+json": object{"type": "object"},
			"application/json-patch+json": object{"type": "array", "items": object{"type": "object"}},
		}))
	if hasStatus {
		d.add(item+"/status", "put", "replace"+k.Name+"Status", "Replace an object's status", one, body("application/json", schema, true))
	}
}

// mark says of all operations of some paths which kind they are about, as kubectl expects.
func (d *document) mark(k *resource.Kind, paths ...string) {
	for _, path := range paths {
		item, _ := d.paths[path].(object)
		for _, op := range item {
			if op, ok := op.(object); ok { // not the parameters
				op["x-kubernetes-group-version-kind"] = object{"group": resource.Group, "version": resource.Version, "kind": k.Name}
			}
		}
	}
}

// system adds one of the platform's own routes.
func (d *document) system(r SystemRoute) {
	md := r.descriptor()
	var params []object
	for i := range md.Input().Fields().Len() {
		fd := md.Input().Fields().Get(i)
		params = append(params, parameter("query", fd.JSONName(), docs.Field(fd), d.value(fd)))
	}
	d.add(r.Path, strings.ToLower(r.Method), "system"+string(r.RPC), string(r.RPC),
		answer("The answer.", d.ref(md.Output())), object{"parameters": params, "description": docs.Method(md)})
}

// fixed adds the routes that are the same whatever kinds there are.
func (d *document) fixed() {
	open := object{"security": []object{}}
	text := object{"responses": object{"200": object{"description": "ok", "content": object{"text/plain": object{"schema": object{"type": "string"}}}},
		"default": errorRef}}
	free := func(what string) object { return answer(what, object{"type": "object"}) }
	d.add("/healthz", "get", "healthz", "Does the process serve?", text, open)
	d.add("/readyz", "get", "readyz", "Is the daemon ready?", text, open)
	d.add("/metrics", "get", "metrics", "Prometheus metrics", text)
	d.add("/version", "get", "version", "Version of the daemon", free("The version."))
	d.add("/api/openapi.json", "get", "openapi", "This document", free("The document."))
	d.add("/apis", "get", "groups", "The API groups", free("An APIGroupList."))
	d.add("/apis/"+resource.Group, "get", "group", "The API group", free("An APIGroup."))
	d.add(root, "get", "resources", "The kinds", free("An APIResourceList."))
	d.byName["ApplyResultList"] = object{"type": "object", "properties": object{
		"apiVersion": object{"type": "string"}, "kind": object{"type": "string", "enum": []string{"ApplyResultList"}},
		"items": object{"type": "array", "items": object{"type": "object", "properties": object{
			"kind": object{"type": "string"}, "namespace": object{"type": "string"}, "name": object{"type": "string"},
			"result": object{"type": "string", "enum": []string{"created", "configured", "unchanged", "failed"}},
			"object": object{"type": "object"}, "error": refTo("Status"),
		}}},
	}}
	d.add(root+"/apply", "post", "applySet", "Apply a set of documents: all of them or none, or each by itself",
		answer("A result per document.", refTo("ApplyResultList")),
		query("fieldManager", "Who owns the fields.", "force", "1: take fields over that other managers set to other values.", "dryRun", "All: validate and report only.", "source", "Name of the text in error messages.",
			"perObject", "1: apply each document by itself; those that fail have an error in their result."),
		body("application/yaml", object{"type": "string"}, true))
	d.plan()
	d.usage()
	d.rekey()
}
