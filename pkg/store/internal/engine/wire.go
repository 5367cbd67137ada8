package engine

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// Objects are kept as their bytes. Most writes change one field of one object and most
// questions are about its metadata, so both are answered from the bytes where that can be
// done without a doubt, and by decoding the few fields that differ where it can't.

// Numbers of fields of metadata; TestNumbersOfMetadata holds them against the proto.
const (
	metaName, metaNamespace, metaLabels, metaAnnotations, metaUID, metaVersion = 1, 2, 3, 4, 5, 6
	metaGeneration, metaCreated, metaDeleted, metaFinalizers                   = 7, 8, 9, 10
	metaOwners, metaManagers                                                   = 11, 12
)

var errWire = errors.New("it is no encoded object")

// field is all that a message's bytes have under a number, tags included. Records of one
// number that do not follow one another are fields of their own.
type field struct {
	num   protowire.Number
	bytes []byte
}

type fields []field

// split appends the fields of a message.
func (f fields) split(b []byte) (fields, error) {
	first := len(f)
	for len(b) > 0 {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return f, fmt.Errorf("%w: %w", errWire, protowire.ParseError(n))
		}
		if last := len(f) - 1; last >= first && f[last].num == num {
			was := f[last].bytes
			f[last].bytes = was[:len(was)+n] // b follows it
		} else {
			f = append(f, field{num, b[:n]})
		}
		b = b[n:]
	}
	return f, nil
}

// get returns the bytes of a field, or nil.
func (f fields) get(num protowire.Number) []byte {
	for i := range f {
		if f[i].num == num {
			return f[i].bytes
		}
	}
	return nil
}

// content is what a field that occurs once has: a text, or a message's bytes. It is nil for
// a field that is not there.
func content(record []byte) []byte {
	_, typ, n := protowire.ConsumeTag(record)
	if n < 0 || typ != protowire.BytesType {
		return nil
	}
	v, n := protowire.ConsumeBytes(record[n:])
	if n < 0 {
		return nil
	}
	return v
}

// contents is that of a message in several records, which are one message for protobuf.
func contents(record []byte) []byte {
	one := content(record)
	_, _, n := protowire.ConsumeField(record)
	if n == len(record) || n < 0 {
		return one
	}
	all := slices.Clone(one)
	for rest := record[n:]; len(rest) > 0 && n > 0; rest = rest[n:] {
		all = append(all, content(rest)...)
		if _, _, n = protowire.ConsumeField(rest); n < 0 {
			return all
		}
	}
	return all
}

// ordered tells whether no number comes twice and they go up: two such messages can be
// compared field by field.
func (f fields) ordered() bool {
	for i := 1; i < len(f); i++ {
		if f[i-1].num >= f[i].num {
			return false
		}
	}
	return true
}

// differences returns the bytes of the fields that two encodings of one message type do not
// have in common; they are the caller's own. Different bytes may still mean the same: maps and unknown fields have no
// order. Equal ones never mean something else.
func differences(a, b []byte) (inA, inB []byte, err error) {
	if string(a) == string(b) {
		return nil, nil, nil
	}
	var room [2][24]field
	fa, errA := fields(room[0][:0]).split(a)
	fb, errB := fields(room[1][:0]).split(b)
	if err := errors.Join(errA, errB); err != nil {
		return nil, nil, err
	}
	if !fa.ordered() || !fb.ordered() {
		return slices.Clone(a), slices.Clone(b), nil
	}
	for len(fa) > 0 || len(fb) > 0 {
		switch {
		case len(fb) == 0 || len(fa) > 0 && fa[0].num < fb[0].num:
			inA = append(inA, fa[0].bytes...)
			fa = fa[1:]
		case len(fa) == 0 || fb[0].num < fa[0].num:
			inB = append(inB, fb[0].bytes...)
			fb = fb[1:]
		default:
			if string(fa[0].bytes) != string(fb[0].bytes) {
				inA, inB = append(inA, fa[0].bytes...), append(inB, fb[0].bytes...)
			}
			fa, fb = fa[1:], fb[1:]
		}
	}
	return inA, inB, nil
}

// part decodes some fields of a message.
func part(typ protoreflect.MessageType, b []byte) (protoreflect.Message, error) {
	m := typ.New()
	if err := proto.Unmarshal(b, m.Interface()); err != nil {
		return nil, fmt.Errorf("%w: %w", errWire, err)
	}
	return m, nil
}

// sameMap tells whether the records of a map field are the entries of a map.
func sameMap(records []byte, m map[string]string) bool {
	n := 0
	for ; len(records) > 0; n++ {
		_, _, size := protowire.ConsumeField(records)
		if size < 0 {
			return false
		}
		var room [4]field
		entry, err := fields(room[:0]).split(content(records[:size]))
		if err != nil {
			return false
		}
		// Go's encoder writes both, also when they are empty.
		if v, ok := m[string(content(entry.get(1)))]; !ok || v != string(content(entry.get(2))) {
			return false
		}
		records = records[size:]
	}
	return n == len(m)
}

// sameTexts tells whether the records of a repeated field are the texts of a list.
func sameTexts(records []byte, texts []string) bool {
	for _, text := range texts {
		_, _, size := protowire.ConsumeField(records)
		if size < 0 || string(content(records[:size])) != text {
			return false
		}
		records = records[size:]
	}
	return len(records) == 0
}

// sameManagerRecords tells whether the records of managedFields are those of a list, times
// and all.
func sameManagerRecords(records []byte, list []*v1alpha1.ManagedFieldsEntry) bool {
	for _, e := range list {
		_, _, size := protowire.ConsumeField(records)
		if size < 0 || len(e.ProtoReflect().GetUnknown()) > 0 {
			return false
		}
		rest := content(records[:size])
		for number, text := range [...]string{e.GetManager(), e.GetOperation(), e.GetApiVersion(), e.GetTime(), e.GetFieldsType(), e.GetFieldsV1(), e.GetSubresource()} {
			if text == "" { // it has no record
				continue
			}
			num, _, n := protowire.ConsumeField(rest)
			if n < 0 || num != protowire.Number(number+1) || string(content(rest[:n])) != text {
				return false
			}
			rest = rest[n:]
		}
		if len(rest) > 0 {
			return false
		}
		records = records[size:]
	}
	return len(records) == 0
}

// hasText tells whether a text is among the records of a repeated field.
func hasText(records []byte, text string) bool {
	for len(records) > 0 {
		_, _, size := protowire.ConsumeField(records)
		if size < 0 {
			return false
		}
		if string(content(records[:size])) == text {
			return true
		}
		records = records[size:]
	}
	return false
}

// sameMetadata tells whether an update to obj's metadata surely leaves all as it is. When
// it says false, decoding has to tell.
func (f fields) sameMetadata(obj *v1alpha1.ObjectMeta) bool {
	for i := range f {
		if f[i].num == metaOwners || f[i].num > metaManagers {
			return false // owners, and what is not known
		}
	}
	return len(obj.GetOwnerReferences()) == 0 && len(obj.ProtoReflect().GetUnknown()) == 0 &&
		sameManagerRecords(f.get(metaManagers), obj.GetManagedFields()) && f.ordered() && len(f.get(metaDeleted)) == 0 &&
		sameMap(f.get(metaLabels), obj.GetLabels()) &&
		sameMap(f.get(metaAnnotations), obj.GetAnnotations()) &&
		sameTexts(f.get(metaFinalizers), obj.GetFinalizers())
}

// generation of metadata.
func (f fields) generation() int32 {
	b := f.get(metaGeneration)
	_, _, n := protowire.ConsumeTag(b)
	if n < 0 {
		return 0
	}
	v, _ := protowire.ConsumeVarint(b[n:])
	return int32(v)
}

// appendMetadata appends metadata that differs in resourceVersion and generation alone.
func (f fields) appendMetadata(b []byte, version string, generation int32) []byte {
	versionDone, generationDone := false, false
	put := func(before protowire.Number) {
		if !versionDone && before > metaVersion {
			b = protowire.AppendTag(b, metaVersion, protowire.BytesType)
			b = protowire.AppendString(b, version)
			versionDone = true
		}
		if !generationDone && before > metaGeneration {
			if generation != 0 {
				b = protowire.AppendTag(b, metaGeneration, protowire.VarintType)
				b = protowire.AppendVarint(b, uint64(generation))
			}
			generationDone = true
		}
	}
	for i := range f {
		if f[i].num == metaVersion || f[i].num == metaGeneration {
			continue
		}
		put(f[i].num)
		b = append(b, f[i].bytes...)
	}
	put(protowire.MaxValidNumber)
	return b
}
