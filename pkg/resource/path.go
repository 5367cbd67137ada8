package resource

import (
	"strconv"
	"strings"
)

// A path names a field from the object's root: spec.rules[0].backends[1].address; an
// entry of a map is metadata.labels[example.org/tier]. Join and the codec write them,
// splitPath reads them.

// IndexPath is the path of item i of a list.
func IndexPath(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// KeyPath is the path of the entry with that key of a map.
func KeyPath(path, key string) string { return path + "[" + shorten(key) + "]" }

// JoinPath is the path of a field of the message at path.
func JoinPath(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// splitPath cuts a path into its steps; list and map steps keep their brackets.
func splitPath(path string) []string {
	var steps []string
	for path != "" {
		if path[0] == '[' {
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return append(steps, path)
			}
			steps, path = append(steps, path[:end+1]), strings.TrimPrefix(path[end+1:], ".")
			continue
		}
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			return append(steps, path)
		}
		steps, path = append(steps, path[:end]), strings.TrimPrefix(path[end:], ".")
	}
	return steps
}

// lineTree remembers in which line each field of a document stands. It is what is left
// of the parsed document once the object is built.
type lineTree struct {
	step string // a field name, [0] or [key]
	line int
	kids []lineTree
}

// locate returns the line of the field at path or, when the document does not have it,
// of the nearest field around it.
func (t *lineTree) locate(path string) int {
	node := t
	for _, step := range splitPath(path) {
		next := -1
		for i := range node.kids {
			if node.kids[i].step == step {
				next = i
				break
			}
		}
		if next < 0 {
			break
		}
		node = &node.kids[next]
	}
	return node.line
}
