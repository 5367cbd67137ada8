package ownership

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// wishOf is the wish of a stored object with the empty lists and maps that somebody owns:
// the proto cannot tell them from unset ones, and to a manager who wants a list to be empty
// they are a value like any other.
func wishOf(kind *resource.Kind, obj resource.Object, owners fieldpath.ManagedFields) resource.Wish {
	wish := resource.WishOf(obj)
	for _, owned := range owners {
		addEmpty(kind.Descriptor(), wish, owned.Set())
	}
	return wish
}

// addEmpty adds the owned fields that a tree lacks, where these are lists or maps.
func addEmpty(md protoreflect.MessageDescriptor, tree map[string]any, set *fieldpath.Set) {
	set.Members.Iterate(func(pe fieldpath.PathElement) {
		fd := fieldOf(md, pe)
		if fd == nil || !fd.IsList() && !fd.IsMap() || tree[fd.JSONName()] != nil {
			return
		}
		if fd.IsList() {
			tree[fd.JSONName()] = []any{}
		} else {
			tree[fd.JSONName()] = map[string]any{}
		}
	})
	set.Children.Iterate(func(pe fieldpath.PathElement) {
		fd := fieldOf(md, pe)
		if fd == nil || fd.Message() == nil || fd.IsMap() {
			return
		}
		below, _ := set.Children.Get(pe)
		if fd.IsList() {
			addEmptyToItems(fd, tree[fd.JSONName()], below)
			return
		}
		sub, ok := tree[fd.JSONName()].(map[string]any)
		if !ok {
			sub = map[string]any{}
		}
		if addEmpty(fd.Message(), sub, below); ok || len(sub) > 0 {
			tree[fd.JSONName()] = sub
		}
	})
}

func addEmptyToItems(fd protoreflect.FieldDescriptor, list any, set *fieldpath.Set) {
	items, _ := list.([]any)
	set.Children.Iterate(func(pe fieldpath.PathElement) {
		below, _ := set.Children.Get(pe)
		for _, item := range items {
			if tree, ok := item.(map[string]any); ok && matches(item, pe) {
				addEmpty(fd.Message(), tree, below)
			}
		}
	})
}

func fieldOf(md protoreflect.MessageDescriptor, pe fieldpath.PathElement) protoreflect.FieldDescriptor {
	if pe.FieldName == nil {
		return nil
	}
	return md.Fields().ByJSONName(*pe.FieldName)
}
