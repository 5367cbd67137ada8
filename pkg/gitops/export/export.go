// Package export makes of a live object the manifest that it could have been applied from:
// what a repository should have, and nothing else.
package export

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// ownPrefix begins the finalizers of the daemon's controllers.
const ownPrefix = "proximity/"

// daemonManager owns what the daemon itself declares.
const daemonManager = "proximityd"

// LeftOut says why an object is not exported, "" when it is.
func LeftOut(reg *resource.Registry, obj resource.Object) string {
	if e := gitspec.Refuse(reg, obj.GetKind()); e != nil {
		return "objects of this kind are never part of a repository"
	}
	m := obj.GetMetadata()
	for _, o := range m.GetOwnerReferences() {
		if o.GetController() {
			return "it is made by " + o.GetKind() + " " + o.GetName()
		}
	}
	managers := m.GetManagedFields()
	foreign := func(e *v1alpha1.ManagedFieldsEntry) bool { return e.GetManager() != daemonManager }
	switch {
	case resource.Deleting(obj):
		return "it is being deleted"
	case obj.GetKind() == "Namespace" && (m.GetName() == resource.DefaultNamespace || m.GetName() == resource.SystemNamespace):
		return "it always exists"
	case len(managers) > 0 && !slices.ContainsFunc(managers, foreign):
		return "the daemon declares it itself"
	}
	return ""
}

// Clean returns what of an object its manifest has: no status, nothing that the server or a
// controller sets, no marks of a Sync, no field that its default would fill in again. The
// object is not changed. Applied again it gives the same object, and cleaning it again the same
// manifest.
func Clean(kind *resource.Kind, obj resource.Object) resource.Object {
	out := resource.Clone(obj)
	m := out.GetMetadata()
	kept := &v1alpha1.ObjectMeta{Name: m.GetName(), Namespace: m.GetNamespace(), Labels: m.GetLabels(), Annotations: m.GetAnnotations()}
	for _, key := range []string{resource.AnnotationSync, resource.AnnotationSource, resource.AnnotationReconcile} {
		delete(kept.Annotations, key)
	}
	if len(kept.Annotations) == 0 {
		kept.Annotations = nil
	}
	for _, f := range m.GetFinalizers() {
		if !strings.HasPrefix(f, ownPrefix) {
			kept.Finalizers = append(kept.Finalizers, f)
		}
	}
	fields := out.ProtoReflect()
	fields.Set(fields.Descriptor().Fields().ByName("metadata"), protoreflect.ValueOfMessage(kept.ProtoReflect()))
	if status := fields.Descriptor().Fields().ByName("status"); status != nil {
		fields.Clear(status)
	}
	if kind.Default == nil {
		return out
	}
	whole := resource.Clone(out)
	kind.Default(whole)
	if spec := fields.Descriptor().Fields().ByName("spec"); spec != nil && fields.Has(spec) {
		d := defaults{kind: kind, out: out, whole: whole}
		d.message(fields.Get(spec).Message())
		d.clear(fields, spec)
	}
	return out
}

// defaults takes away fields as long as their defaults give the same whole.
type defaults struct {
	kind       *resource.Kind
	out, whole resource.Object
}

// message takes fields of a message away, and of the messages in it.
func (d *defaults) message(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) || d.clear(m, fd) || fd.IsMap() || fd.Message() == nil {
			continue
		}
		if !fd.IsList() {
			d.message(m.Get(fd).Message())
			d.clear(m, fd)
			continue
		}
		for j := range m.Get(fd).List().Len() {
			d.message(m.Get(fd).List().Get(j).Message())
		}
	}
}

// clear takes a field away unless that makes a difference.
func (d *defaults) clear(m protoreflect.Message, fd protoreflect.FieldDescriptor) bool {
	if !m.Has(fd) {
		return true
	}
	was := proto.Clone(m.Interface()).ProtoReflect().Get(fd) // a list or map is emptied in place
	m.Clear(fd)
	try := resource.Clone(d.out)
	d.kind.Default(try)
	if proto.Equal(try, d.whole) {
		return true
	}
	m.Set(fd, was)
	return false
}
