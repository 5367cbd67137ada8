package ownership

import (
	"cmp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/merge"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// describe names conflicts by the paths that their fields have in the document.
func describe(kind *resource.Kind, found merge.Conflicts, wish resource.Wish) []Conflict {
	conflicts := make([]Conflict, len(found))
	for i, c := range found {
		operation, manager, _ := strings.Cut(c.Manager, " ")
		conflicts[i] = Conflict{Path: pathIn(kind.Descriptor(), map[string]any(wish), c.Path), Manager: manager, Update: operation == operationUpdate}
	}
	slices.SortFunc(conflicts, func(a, b Conflict) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Manager, b.Manager))
	})
	return conflicts
}

// pathIn writes a path as errors have it: spec.ports[0].port. An item that the document
// does not have is named by its keys.
func pathIn(md protoreflect.MessageDescriptor, at any, path fieldpath.Path) string {
	text := ""
	var field protoreflect.FieldDescriptor // that the last step led to, or whose items or entries it led into
	for _, step := range path {
		if step.FieldName == nil {
			list, _ := at.([]any)
			i := slices.IndexFunc(list, func(item any) bool { return matches(item, step) })
			if i < 0 {
				text, at = text+step.String(), nil
			} else {
				text, at = resource.IndexPath(text, i), list[i]
			}
			continue
		}
		entries, _ := at.(map[string]any)
		at = entries[*step.FieldName]
		if field != nil && field.IsMap() {
			text = resource.KeyPath(text, *step.FieldName)
			continue
		}
		text = resource.JoinPath(text, *step.FieldName)
		if field != nil {
			md = field.Message()
		}
		if md != nil {
			field = md.Fields().ByJSONName(*step.FieldName)
		}
	}
	return text
}

// matches tells whether a step of a path leads to an item of a list.
func matches(item any, step fieldpath.PathElement) bool {
	switch {
	case step.Value != nil:
		return value.Equals(value.NewValueInterface(item), *step.Value)
	case step.Key != nil:
		fields, ok := item.(map[string]any)
		return ok && !slices.ContainsFunc(*step.Key, func(f value.Field) bool {
			return !value.Equals(value.NewValueInterface(fields[f.Name]), f.Value)
		})
	}
	return false
}
