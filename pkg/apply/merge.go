package apply

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// mergeDocument returns what becomes of the live object when the document is applied; see
// the package comment. A resourceVersion in the document is passed on for the store to check.
func mergeDocument(cur, doc resource.Object) resource.Object {
	next := resource.Clone(doc)
	live := proto.Clone(cur.GetMetadata()).(*v1alpha1.ObjectMeta)
	m := doc.GetMetadata()
	if m.GetResourceVersion() != "" {
		live.ResourceVersion = m.GetResourceVersion()
	}
	live.Labels = mergeText(live.GetLabels(), m.GetLabels())
	live.Annotations = mergeText(live.GetAnnotations(), m.GetAnnotations())
	for _, f := range m.GetFinalizers() {
		if !slices.Contains(live.GetFinalizers(), f) {
			live.Finalizers = append(live.Finalizers, f)
		}
	}
	for _, owner := range m.GetOwnerReferences() {
		i := slices.IndexFunc(live.GetOwnerReferences(), func(o *v1alpha1.OwnerReference) bool { return o.GetUid() == owner.GetUid() })
		if i < 0 {
			live.OwnerReferences = append(live.OwnerReferences, proto.Clone(owner).(*v1alpha1.OwnerReference))
		} else {
			live.OwnerReferences[i] = proto.Clone(owner).(*v1alpha1.OwnerReference)
		}
	}
	n := next.ProtoReflect()
	n.Set(n.Descriptor().Fields().ByName("metadata"), protoreflect.ValueOfMessage(live.ProtoReflect()))
	return next
}

func mergeText(live, doc map[string]string) map[string]string {
	if len(doc) == 0 {
		return live
	}
	merged := maps.Clone(live)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, doc)
	return merged
}

// sameContent tells whether two versions of an object are equal outside metadata and status.
func sameContent(a, b resource.Object) bool {
	am, bm := a.ProtoReflect(), b.ProtoReflect()
	fields := am.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch name := fd.JSONName(); {
		case name == "metadata" || name == "status":
		case fd.Message() != nil && !fd.IsList() && !fd.IsMap():
			if !resource.EqualField(a, b, name) {
				return false
			}
		case !am.Get(fd).Equal(bm.Get(fd)):
			return false
		}
	}
	return true
}

// checkImmutable compares the fields that the kind declares immutable. One that is not set
// yet may be set.
func checkImmutable(kind *resource.Kind, cur, next resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	if kind.ImmutableSpec && !resource.EqualField(cur, next, "spec") {
		errs = append(errs, resource.Forbidden("spec", "",
			fmt.Sprintf("an object of kind %s cannot change once it is created; create another one", kind.Name)))
	}
	for _, path := range kind.Immutable {
		was, ok := text(cur, path)
		if !ok {
			continue
		}
		is, ok := text(next, path)
		if ok && is == was {
			continue
		}
		if !ok {
			is = "(unset)"
		}
		errs = append(errs, resource.Forbidden(path, is,
			fmt.Sprintf("allowed is %q: the field cannot change once it is set; delete the %s and create it again", was, kind.Name)))
	}
	return errs
}

// text returns the value of a scalar field as text, and whether it is set.
func text(obj resource.Object, path string) (string, bool) {
	m := obj.ProtoReflect()
	steps := strings.Split(path, ".")
	for i, step := range steps {
		fd := m.Descriptor().Fields().ByJSONName(step)
		if fd == nil || !m.Has(fd) {
			return "", false
		}
		if i == len(steps)-1 {
			return m.Get(fd).String(), true
		}
		m = m.Get(fd).Message()
	}
	return "", false
}
