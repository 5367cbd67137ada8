package resource

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// Check returns the field errors of an object after defaulting: its metadata, the rules
// that the proto's options declare (allowed values, list keys, the annotations of
// buf.validate), then the kind's own. What the options said of a field is said once.
func (k *Kind) Check(obj Object) FieldErrors {
	errs := k.CheckMetadata(obj)
	if !k.isFine(obj) {
		errs = append(errs, k.CheckShape(obj)...)
		for _, e := range k.CheckRules(obj) {
			if !slices.ContainsFunc(errs, func(said *FieldError) bool { return said.Path == e.Path }) {
				errs = append(errs, e)
			}
		}
	}
	if k.Validate != nil {
		errs = append(errs, k.Validate(obj)...)
	}
	return k.Hide(errs)
}

// CheckShape returns the field errors by the options of the proto: allowed values and list
// keys, which also a document that sets only some fields of an object must respect.
func (k *Kind) CheckShape(obj Object) FieldErrors {
	var errs FieldErrors
	m := obj.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if name := fd.JSONName(); name != "metadata" && name != "status" && m.Has(fd) {
			errs = checkField(errs, fd, m.Get(fd), name)
		}
	}
	return errs
}

// CheckStatus returns the field errors of an object's status by the proto's options.
func (k *Kind) CheckStatus(obj Object) FieldErrors {
	if status, ok := Field(obj, "status"); ok {
		return checkMessage(nil, status, "status")
	}
	return nil
}

// CheckMetadata returns the field errors of what users may set in an object's metadata.
func (k *Kind) CheckMetadata(obj Object) FieldErrors {
	if m := obj.GetMetadata(); !k.isFineMetadata(m) {
		return k.checkMetadata(m)
	}
	return nil
}

func (k *Kind) checkMetadata(m *v1alpha1.ObjectMeta) FieldErrors {
	var errs FieldErrors
	switch {
	case m.GetName() == "":
		errs = append(errs, Required("metadata.name", nameRule))
	case !IsName(m.GetName()):
		errs = append(errs, Invalid("metadata.name", m.GetName(), nameRule))
	}
	switch {
	case !k.Namespaced && m.GetNamespace() != "":
		errs = append(errs, Forbidden("metadata.namespace", m.GetNamespace(),
			fmt.Sprintf("the kind %s lives outside namespaces; leave it out", k.Name)))
	case k.Namespaced && !IsDNSLabel(m.GetNamespace()):
		errs = append(errs, Invalid("metadata.namespace", m.GetNamespace(), labelRule))
	}
	errs = checkLabels(errs, m)
	if n := len(m.GetFinalizers()); n > MaxFinalizers {
		errs = append(errs, Invalid("metadata.finalizers", fmt.Sprint(n), fmt.Sprintf("at most %d", MaxFinalizers)))
	}
	for i, f := range m.GetFinalizers() {
		if !IsLabelKey(f) {
			errs = append(errs, Invalid(IndexPath("metadata.finalizers", i), f, labelKeyRule))
		}
	}
	if n := len(m.GetOwnerReferences()); n > MaxFinalizers {
		errs = append(errs, Invalid("metadata.ownerReferences", fmt.Sprint(n), fmt.Sprintf("at most %d", MaxFinalizers)))
	}
	first := map[string]int{}
	for i, o := range m.GetOwnerReferences() {
		path := IndexPath("metadata.ownerReferences", i)
		at, dup := first[o.GetUid()]
		switch {
		case o.GetUid() == "":
			errs = append(errs, Required(path+".uid", "the uid of the owner"))
		case dup:
			errs = append(errs, Duplicate(path+".uid", o.GetUid(), IndexPath("metadata.ownerReferences", at)))
		default:
			first[o.GetUid()] = i
		}
	}
	return errs
}

func checkLabels(errs FieldErrors, m *v1alpha1.ObjectMeta) FieldErrors {
	if n := len(m.GetLabels()); n > MaxLabels {
		errs = append(errs, Invalid("metadata.labels", fmt.Sprint(n), fmt.Sprintf("at most %d labels", MaxLabels)))
	}
	for _, key := range keysOf(m.GetLabels()) {
		path := KeyPath("metadata.labels", key)
		if !IsLabelKey(key) {
			errs = append(errs, Invalid(path, key, "as key "+labelKeyRule))
		}
		if v := m.GetLabels()[key]; !IsLabelValue(v) {
			errs = append(errs, Invalid(path, v, labelValueRule))
		}
	}
	size := 0
	for _, key := range keysOf(m.GetAnnotations()) {
		size += len(key) + len(m.GetAnnotations()[key])
		if !IsLabelKey(key) {
			errs = append(errs, Invalid(KeyPath("metadata.annotations", key), key, "as key "+labelKeyRule))
		}
	}
	if size > MaxAnnotationsBytes {
		errs = append(errs, Invalid("metadata.annotations", fmt.Sprintf("%d bytes", size),
			fmt.Sprintf("at most %d bytes together", MaxAnnotationsBytes)))
	}
	return errs
}

func keysOf(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func checkMessage(errs FieldErrors, m protoreflect.Message, path string) FieldErrors {
	for i := range m.Descriptor().Fields().Len() {
		if fd := m.Descriptor().Fields().Get(i); m.Has(fd) {
			errs = checkField(errs, fd, m.Get(fd), JoinPath(path, fd.JSONName()))
		}
	}
	return errs
}

// checkField checks a field and what is in it by the options of the proto.
func checkField(errs FieldErrors, fd protoreflect.FieldDescriptor, v protoreflect.Value, path string) FieldErrors {
	switch {
	case fd.IsMap():
		return errs
	case fd.IsList():
		list := v.List()
		for i := range list.Len() {
			errs = checkValue(errs, fd, list.Get(i), IndexPath(path, i))
		}
		return checkListKeys(errs, fd, list, path)
	}
	return checkValue(errs, fd, v, path)
}

func checkValue(errs FieldErrors, fd protoreflect.FieldDescriptor, v protoreflect.Value, path string) FieldErrors {
	if fd.Message() != nil {
		return checkMessage(errs, v.Message(), path)
	}
	if set := rulesOf(fd).allowed; set != nil && !slices.Contains(set, v.String()) {
		errs = append(errs, NotSupported(path, v.String(), set))
	}
	return errs
}

// checkListKeys checks that items of a list are told apart by their (list_keys).
func checkListKeys(errs FieldErrors, fd protoreflect.FieldDescriptor, list protoreflect.List, path string) FieldErrors {
	keys := rulesOf(fd).listKeys
	if keys == nil {
		return errs
	}
	first := make(map[string]int, list.Len())
	for i := range list.Len() {
		item := list.Get(i).Message()
		values := make([]string, len(keys))
		missing := false
		for j, key := range keys {
			kd := item.Descriptor().Fields().ByJSONName(key)
			if values[j] = item.Get(kd).String(); values[j] == "" {
				errs = append(errs, Required(IndexPath(path, i)+"."+key, "a value that no other item of the list has"))
				missing = true
			}
		}
		if missing {
			continue
		}
		id := strings.Join(values, ",")
		if at, dup := first[id]; dup {
			errs = append(errs, Duplicate(IndexPath(path, i)+"."+keys[len(keys)-1], id, IndexPath(path, at)))
			continue
		}
		first[id] = i
	}
	return errs
}
