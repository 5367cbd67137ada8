package engine

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// deterministic: equal objects are equal bytes in every backup.
var deterministic = proto.MarshalOptions{Deterministic: true}

// revision is what an update makes of a version.
type revision struct {
	changed, specChanged bool
	within               *within              // all that changed; nil: find out
	rest                 fields               // everything but metadata and status
	meta                 fields               // of the version before
	metadata             *v1alpha1.ObjectMeta // as it is going to be; nil: as in meta
}

// revise compares an update with what there is. What is equal keeps its bytes. changed is
// false when nothing is another but times in managedFields.
func (l *layout) revise(cur *version, meta fields, obj resource.Object, s *scratch) (r revision, err error) {
	r.meta = meta
	if !meta.sameMetadata(obj.GetMetadata()) {
		if r.metadata, err = cur.metadata(); err != nil {
			return r, err
		}
		r.changed = reviseMetadata(r.metadata, obj.GetMetadata())
	}
	bare := l.typ.New()
	l.copyOthers(bare, obj.ProtoReflect())
	if s.rest, err = deterministic.MarshalAppend(s.rest[:0], bare.Interface()); err != nil {
		return r, err
	}
	var room [2][24]field
	after, err := fields(room[0][:0]).split(s.rest)
	if err != nil {
		return r, err
	}
	before, err := cur.others(room[1][:0])
	if err != nil {
		return r, err
	}
	if !before.ordered() || !after.ordered() {
		r.rest = slices.Clone(after)
		err := l.reviseWhole(&r, before, after)
		return r, err
	}
	r.rest = make(fields, 0, len(before)+len(after))
	for len(before) > 0 || len(after) > 0 {
		var was, is field
		switch {
		case len(after) == 0 || len(before) > 0 && before[0].num < after[0].num:
			was, before = before[0], before[1:]
		case len(before) == 0 || after[0].num < before[0].num:
			is, after = after[0], after[1:]
		default:
			was, is, before, after = before[0], after[0], before[1:], after[1:]
		}
		if err := l.reviseField(&r, was, is); err != nil {
			return r, err
		}
	}
	return r, nil
}

// reviseField adds one field to the rest; one of was and is may be missing.
func (l *layout) reviseField(r *revision, was, is field) error {
	keep := was
	if string(was.bytes) != string(is.bytes) {
		fd := l.kind.Descriptor().Fields().ByNumber(max(was.num, is.num))
		equal, err := false, error(nil)
		spec := fd != nil && fd.Name() == "spec"
		var all *within
		if spec { // unset and empty are equal
			var inA, inB []byte
			if inA, inB, err = differences(contents(was.bytes), contents(is.bytes)); err == nil {
				equal = len(inA) == 0 && len(inB) == 0
			}
			if err == nil && !equal {
				equal, err = equalParts(l.spec, inA, inB)
				if was.bytes != nil && is.bytes != nil {
					all = &within{inA, inB}
				}
			}
		} else {
			equal, err = equalParts(l.typ, was.bytes, is.bytes)
		}
		if err != nil {
			return err
		}
		if !equal {
			keep = is
			if r.changed {
				all = nil // there is more
			}
			r.changed, r.specChanged, r.within = true, r.specChanged || spec, all
		}
	}
	if keep.bytes != nil {
		r.rest = append(r.rest, keep)
	}
	return nil
}

// within is what two versions do not share of their specs, when all else that a change is
// told of is the same.
type within struct{ was, is []byte }

// reviseWhole does the same for encodings that cannot be compared field by field.
func (l *layout) reviseWhole(r *revision, before, after fields) error {
	var a, b []byte
	for _, f := range before {
		a = append(a, f.bytes...)
	}
	for _, f := range after {
		b = append(b, f.bytes...)
	}
	was, errA := part(l.typ, a)
	is, errB := part(l.typ, b)
	if errA != nil || errB != nil {
		return fmt.Errorf("%w: %w", errA, errB)
	}
	r.specChanged = !resource.EqualField(was.Interface().(resource.Object), is.Interface().(resource.Object), "spec")
	if fd := l.kind.Descriptor().Fields().ByName("spec"); fd != nil && !r.specChanged {
		was.Clear(fd)
		is.Clear(fd)
	}
	r.changed = r.changed || r.specChanged || !proto.Equal(was.Interface(), is.Interface())
	return nil
}

// copyOthers makes to share everything but metadata and status with from.
func (l *layout) copyOthers(to, from protoreflect.Message) {
	for _, fd := range l.others {
		if from.Has(fd) {
			to.Set(fd, from.Get(fd))
		}
	}
	if unknown := from.GetUnknown(); len(unknown) > 0 {
		to.SetUnknown(unknown)
	}
}

func (l *layout) isStatus(num protowire.Number) bool {
	return l.status != nil && num == l.status.Number()
}

// equalMessages compares two encodings of a message by what they mean.
func equalMessages(typ protoreflect.MessageType, a, b []byte) (bool, error) {
	inA, inB, err := differences(a, b)
	if err != nil || len(inA) == 0 && len(inB) == 0 {
		return err == nil, err
	}
	return equalParts(typ, inA, inB)
}

func equalParts(typ protoreflect.MessageType, a, b []byte) (bool, error) {
	if surelyDiffer(a, b) {
		return false, nil
	}
	x, err := part(typ, a)
	if err != nil {
		return false, err
	}
	y, err := part(typ, b)
	return err == nil && proto.Equal(x.Interface(), y.Interface()), err
}

// surelyDiffer tells whether two encodings by protobuf's encoder cannot mean the same: two
// that do have the same records, in another order at most, down to each entry of a map, and
// so the same number and the same sum of bytes.
func surelyDiffer(a, b []byte) bool {
	if len(a) != len(b) {
		return true
	}
	sum := 0
	for i := range a {
		sum += int(a[i]) - int(b[i])
	}
	return sum != 0
}

// metadata decodes a version's metadata; they belong to the caller.
func (v *version) metadata() (*v1alpha1.ObjectMeta, error) {
	m := &v1alpha1.ObjectMeta{}
	if err := proto.Unmarshal(contents(v.field(v.layout.metadata)), m); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", v.name(), errWire, err)
	}
	return m, nil
}

// encode returns the bytes of the next version, which has the status of the one before.
func (r *revision) encode(version string, generation int32, cur *version, s *scratch) (_ []byte, err error) {
	if r.metadata == nil {
		s.meta = r.meta.appendMetadata(s.meta[:0], version, generation)
	} else {
		r.metadata.ResourceVersion, r.metadata.Generation = version, generation
		if s.meta, err = deterministic.MarshalAppend(s.meta[:0], r.metadata); err != nil {
			return nil, err
		}
	}
	var status []byte
	if cur.layout.status != nil {
		status = cur.field(cur.layout.status)
	}
	return cur.layout.join(r.rest, s.meta, status), nil
}

// reviseStatus returns the record of the status that an update brings, or nil, and whether
// it is equal to the one there is; unset and empty are.
func (l *layout) reviseStatus(cur *version, obj resource.Object, s *scratch) (record []byte, equal bool, err error) {
	from := obj.ProtoReflect()
	s.rest = s.rest[:0]
	if from.Has(l.status) {
		only := l.typ.New()
		only.Set(l.status, from.Get(l.status))
		if s.rest, err = deterministic.MarshalAppend(s.rest, only.Interface()); err != nil {
			return nil, false, err
		}
	}
	equal, err = equalMessages(l.observed, contents(cur.field(l.status)), contents(s.rest))
	return s.rest, equal, err
}

// join returns an object's bytes as its message would be encoded: known fields by number,
// then what is not known. status is a record.
func (l *layout) join(rest fields, meta, status []byte) []byte {
	size := len(status) + protowire.SizeTag(l.metadata.Number()) + protowire.SizeBytes(len(meta))
	for i := range rest {
		size += len(rest[i].bytes)
	}
	b := make([]byte, 0, size)
	metaDone := false
	put := func(before protowire.Number) {
		if !metaDone && before > l.metadata.Number() {
			b = protowire.AppendTag(b, l.metadata.Number(), protowire.BytesType)
			b = protowire.AppendBytes(b, meta)
			metaDone = true
		}
		if len(status) > 0 && before > l.status.Number() {
			b = append(b, status...)
			status = nil
		}
	}
	known := l.kind.Descriptor().Fields()
	for i := range rest {
		if known.ByNumber(rest[i].num) == nil {
			put(protowire.MaxValidNumber)
		} else {
			put(rest[i].num)
		}
		b = append(b, rest[i].bytes...)
	}
	put(protowire.MaxValidNumber)
	return b
}

// others returns the fields of a version that are neither metadata nor status.
func (v *version) others(room fields) (fields, error) {
	all, err := room.split(v.encoded)
	return slices.DeleteFunc(all, func(f field) bool {
		return f.num == v.layout.metadata.Number() || v.layout.isStatus(f.num)
	}), err
}

// changedFields is audit.Changed of two versions. It decodes only what they do not share.
func changedFields(was, is *version) ([]string, []audit.Value, error) {
	l := is.layout
	a, b, err := l.parts(was.encoded, is.encoded)
	if err != nil {
		return nil, nil, err
	}
	x, err := part(l.typ, a)
	if err != nil {
		return nil, nil, err
	}
	y, err := part(l.typ, b)
	if err != nil {
		return nil, nil, err
	}
	paths, values := audit.Changed(x.Interface().(resource.Object), y.Interface().(resource.Object))
	return paths, values, nil
}

// parts returns objects that have only what two objects do not share, and of metadata only
// what a change of is recorded.
func (l *layout) parts(was, is []byte) (a, b []byte, err error) {
	var room [2][24]field
	fa, err := fields(room[0][:0]).split(was)
	if err != nil {
		return nil, nil, err
	}
	fb, err := fields(room[1][:0]).split(is)
	if err != nil {
		return nil, nil, err
	}
	if !fa.ordered() || !fb.ordered() {
		return was, is, nil
	}
	for _, f := range fb {
		if fa.get(f.num) == nil {
			b = append(b, f.bytes...)
		}
	}
	for _, f := range fa {
		other := fb.get(f.num)
		if string(other) == string(f.bytes) {
			continue
		}
		fd := l.kind.Descriptor().Fields().ByNumber(f.num)
		if other == nil || fd == nil || fd.Message() == nil || fd.Cardinality() == protoreflect.Repeated {
			a, b = append(a, f.bytes...), append(b, other...)
			continue
		}
		inA, inB, err := differences(contents(f.bytes), contents(other))
		if err != nil {
			return nil, nil, err
		}
		if f.num == l.metadata.Number() {
			inA, inB = recorded(inA), recorded(inB)
		}
		a = protowire.AppendBytes(protowire.AppendTag(a, f.num, protowire.BytesType), inA)
		b = protowire.AppendBytes(protowire.AppendTag(b, f.num, protowire.BytesType), inB)
	}
	return a, b, nil
}

// recorded leaves out of metadata what changes with every change.
func recorded(meta []byte) []byte {
	var room [16]field
	all, err := fields(room[:0]).split(meta)
	if err != nil {
		return meta
	}
	var out []byte
	for _, f := range all {
		if f.num != metaVersion && f.num != metaGeneration {
			out = append(out, f.bytes...)
		}
	}
	return out
}
