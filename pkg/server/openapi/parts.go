package openapi

import "regexp"

// errorRef is the answer that every route may give.
var errorRef = object{"$ref": "#/components/responses/Error"}

// listParameters are those of collections.
var listParameters = query(
	"labelSelector", "Label selector in Kubernetes' syntax.",
	"fieldSelector", "Terms field=value and field!=value joined by commas, of metadata.name, metadata.namespace and, "+
		"where the kind has them, status.phase, status.state, type, reason, regarding.kind, regarding.name, regarding.uid.",
	"limit", "The most objects that a page may have; without one all objects are listed.",
	"continue", "metadata.continue of the page before, with the same path and selectors.",
	"watch", "1: stream changes instead of listing.",
	"resourceVersion", "With watch: the revision after which changes are wanted.",
	"allowWatchBookmarks", "With watch, 1: send BOOKMARK events too.",
	"timeoutSeconds", "With watch: end it after that time.",
)

// forced is a parameter of writes of objects that may be kept by a Sync.
var forced = []string{"force", "1: change an object also when a Sync keeps it as its repository says."}

// dryRun is a parameter of every write.
var dryRun = []string{
	"dryRun", "All: do everything but keep the result.",
	"fieldValidation", "Has no effect: unknown and duplicate fields are always refused, as with Strict.",
}

var braces = regexp.MustCompile(`\{(\w+)\}`)

// pathParameters declares the parameters in braces.
func pathParameters(path string) []object {
	var params []object
	for _, m := range braces.FindAllStringSubmatch(path, -1) {
		p := parameter("path", m[1], "", object{"type": "string"})
		p["required"] = true
		params = append(params, p)
	}
	return params
}

func parameter(in, name, description string, schema object) object {
	p := object{"in": in, "name": name, "schema": schema}
	if description != "" {
		p["description"] = description
	}
	return p
}

// query declares optional parameters of the query: names and descriptions in turn.
func query(namesAndDescriptions ...string) object {
	var params []object
	for i := 0; i+1 < len(namesAndDescriptions); i += 2 {
		params = append(params, parameter("query", namesAndDescriptions[i], namesAndDescriptions[i+1], object{"type": "string"}))
	}
	return object{"parameters": params}
}

func answer(description string, schema object) object {
	return object{"responses": object{"200": content(description, schema), "default": errorRef}}
}

func created(schema object) object {
	return object{"responses": object{"201": content("The object as it was stored.", schema), "default": errorRef}}
}

func content(description string, schema object) object {
	return object{"description": description, "content": object{"application/json": object{"schema": schema}}}
}

func body(mediaType string, schema object, required bool) object {
	return object{"requestBody": object{"required": required, "content": object{mediaType: object{"schema": schema}}}}
}

// bodies is a body that must be of one of several media types.
func bodies(schemas object) object {
	types := object{}
	for mediaType, schema := range schemas {
		types[mediaType] = object{"schema": schema}
	}
	return object{"requestBody": object{"required": true, "content": types}}
}
