package audit

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/sealed"
)

// Teller is Changed for messages of one type that are still encoded, by protobuf's encoder:
// nearly all writes change little, and decoding both sides to tell it takes longer than all
// else that becomes of a record. What it cannot tell without a doubt it leaves to Changed.
type Teller struct {
	order    []tellerField              // as the message declares them
	byNumber map[protowire.Number]uint8 // to order
}

// tellerField is what a Teller has to know of a field.
type tellerField struct {
	fd        protoreflect.FieldDescriptor
	name      string // in JSON
	kind      protoreflect.Kind
	sensitive bool
	below     *Teller // of messages; nil: it is none, or one that is left to Changed
	sorted    bool    // no map is in it: other bytes are another value
}

// maxTellerFields bounds the fields of a message that a Teller knows.
const maxTellerFields = 64

// NewTeller returns the Teller of a type of messages.
func NewTeller(md protoreflect.MessageDescriptor) *Teller {
	return newTeller(md, map[protoreflect.FullName]*Teller{})
}

// newTeller also finds those of messages that hold themselves, in known.
func newTeller(md protoreflect.MessageDescriptor, known map[protoreflect.FullName]*Teller) *Teller {
	if t, ok := known[md.FullName()]; ok {
		return t
	}
	if md.Fields().Len() > maxTellerFields {
		return nil
	}
	t := &Teller{byNumber: map[protowire.Number]uint8{}}
	known[md.FullName()] = t
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		f := tellerField{fd: fd, name: fd.JSONName(), kind: fd.Kind(), sensitive: resource.IsSensitive(fd), sorted: !hasMap(fd, nil)}
		if fd.Message() != nil && !fd.IsMap() {
			f.below = newTeller(fd.Message(), known)
		}
		t.byNumber[fd.Number()] = uint8(i)
		t.order = append(t.order, f)
	}
	return t
}

// hasMap tells whether a field is a map, or has one below.
func hasMap(fd protoreflect.FieldDescriptor, above []protoreflect.FullName) bool {
	if fd.IsMap() || fd.Message() == nil {
		return fd.IsMap()
	}
	for _, name := range above {
		if name == fd.Message().FullName() {
			return false // it is being looked at
		}
	}
	above = append(above, fd.Message().FullName())
	for i := range fd.Message().Fields().Len() {
		if hasMap(fd.Message().Fields().Get(i), above) {
			return true
		}
	}
	return false
}

// Changed tells what Changed does of two messages at the path, both of which are there. It
// answers false when it does not know.
func (t *Teller) Changed(path string, was, is []byte) (paths []string, values []Value, ok bool) {
	if t == nil {
		return nil, nil, false
	}
	d := &differ{}
	if !d.encoded(t, was, is, path) {
		return nil, nil, false
	}
	return d.paths, d.values, true
}

// records are the bytes that a message has for each field of its Teller, tags included.
type records [maxTellerFields][]byte

// split sorts the fields of a message. It answers false for messages that have what is not
// known, or fields in another order than the encoder's.
func (t *Teller) split(b []byte, into *records) bool {
	last := protowire.Number(0)
	for len(b) > 0 {
		num, _, n := protowire.ConsumeField(b)
		at, known := t.byNumber[num]
		if n < 0 || !known || num < last {
			return false
		}
		if was := into[at]; num == last {
			into[at] = was[:len(was)+n] // b follows it
		} else {
			into[at] = b[:n]
		}
		b, last = b[n:], num
	}
	return true
}

// encoded is message for encoded ones.
func (d *differ) encoded(t *Teller, a, b []byte, path string) bool {
	var inA, inB records
	if !t.split(a, &inA) || !t.split(b, &inB) {
		return false
	}
	for i := range t.order {
		was, is := inA[i], inB[i]
		if string(was) == string(is) {
			continue
		}
		if !d.encodedField(&t.order[i], was, is, path) {
			return false
		}
	}
	return true
}

// encodedField is field for records that are not the same.
func (d *differ) encodedField(f *tellerField, was, is []byte, path string) bool {
	at := resource.JoinPath(path, f.name)
	if f.fd.IsMap() {
		a, okA := f.entries(was)
		b, okB := f.entries(is)
		if okA && okB {
			d.entries(a, b, at, f.sensitive)
		}
		return okA && okB
	}
	if f.fd.Message() != nil && !f.fd.IsList() && was != nil && is != nil {
		a, okA := onlyContent(was)
		b, okB := onlyContent(is)
		return okA && okB && f.below != nil && d.encoded(f.below, a, b, at)
	}
	if !f.sorted && was != nil && is != nil && len(was) == len(is) {
		return false // the same, perhaps, with the entries of a map in another order
	}
	before, okA := f.text(was)
	after, okB := f.text(is)
	if !okA || !okB {
		return false
	}
	d.add(at)
	d.value(at, before, after)
	return true
}

// onlyContent is what a field that is one record has.
func onlyContent(record []byte) ([]byte, bool) {
	_, typ, n := protowire.ConsumeTag(record)
	if n < 0 || typ != protowire.BytesType {
		return nil, false
	}
	v, size := protowire.ConsumeBytes(record[n:])
	return v, size >= 0 && n+size == len(record)
}

// entries are those of a map of texts.
func (f *tellerField) entries(records []byte) (map[string]string, bool) {
	if f.fd.MapKey().Kind() != protoreflect.StringKind || f.fd.MapValue().Kind() != protoreflect.StringKind {
		return nil, false
	}
	m := map[string]string{}
	for len(records) > 0 {
		_, _, n := protowire.ConsumeField(records)
		if n < 0 {
			return nil, false
		}
		entry, ok := onlyContent(records[:n])
		if !ok {
			return nil, false
		}
		var key, value string
		for len(entry) > 0 {
			num, _, size := protowire.ConsumeField(entry)
			if size < 0 {
				return nil, false
			}
			text, ok := onlyContent(entry[:size])
			switch {
			case ok && num == 1:
				key = string(text)
			case ok && num == 2:
				value = string(text)
			default:
				return nil, false
			}
			entry = entry[size:]
		}
		m[key] = value
		records = records[n:]
	}
	return m, true
}

// text is differ.text for the records of a field; nil: there are none.
func (f *tellerField) text(records []byte) (text *string, ok bool) {
	if records == nil {
		return nil, true
	}
	if f.kind == protoreflect.StringKind && !f.fd.IsList() {
		v, ok := onlyContent(records)
		if !ok || len(v) == 0 && !f.fd.HasPresence() {
			return nil, false
		}
		s := string(v)
		if f.sensitive {
			s = sealed.MarkOf(s)
		}
		return &s, true
	}
	var room [512]byte
	b, ok := f.appendTo(room[:0], records)
	s := string(b)
	return &s, ok
}

// appendTo is appendField.
func (f *tellerField) appendTo(b, records []byte) ([]byte, bool) {
	switch {
	case f.fd.IsMap():
		return b, false
	case !f.fd.IsList():
		_, typ, n := protowire.ConsumeTag(records)
		if n < 0 {
			return b, false
		}
		b, rest, ok := f.appendOne(b, typ, records[n:], !f.fd.HasPresence())
		return b, ok && len(rest) == 0
	}
	b = append(b, '[')
	some := false
	for len(records) > 0 {
		_, typ, size := protowire.ConsumeField(records)
		if size < 0 {
			return b, false
		}
		value := records[protowire.SizeTag(f.fd.Number()):size]
		records = records[size:]
		if typ == protowire.BytesType && (f.kind == protoreflect.BoolKind || f.kind == protoreflect.Int32Kind) { // several in one
			value, size = protowire.ConsumeBytes(value)
			if typ = protowire.VarintType; size < 0 {
				return b, false
			}
		}
		for ok := false; len(value) > 0; some = true {
			if some {
				b = append(b, ',')
			}
			if b, value, ok = f.appendOne(b, typ, value, false); !ok {
				return b, false
			}
		}
	}
	return append(b, ']'), some
}

// appendOne appends the first value and returns what is behind it. notZero: one that is zero
// stands for none.
func (f *tellerField) appendOne(b []byte, typ protowire.Type, value []byte, notZero bool) (out, rest []byte, ok bool) {
	switch {
	case f.kind == protoreflect.StringKind && typ == protowire.BytesType:
		v, n := protowire.ConsumeBytes(value)
		if n < 0 || notZero && len(v) == 0 {
			return b, nil, false
		}
		return appendQuoted(b, string(v), f.sensitive), value[n:], true
	case f.kind == protoreflect.MessageKind && typ == protowire.BytesType && f.below != nil:
		v, n := protowire.ConsumeBytes(value)
		if n < 0 {
			return b, nil, false
		}
		b, ok := f.below.appendTo(b, v)
		return b, value[n:], ok
	case (f.kind == protoreflect.BoolKind || f.kind == protoreflect.Int32Kind) && typ == protowire.VarintType:
		v, n := protowire.ConsumeVarint(value)
		if n < 0 || notZero && v == 0 {
			return b, nil, false
		}
		if f.kind == protoreflect.BoolKind {
			return strconv.AppendBool(b, protowire.DecodeBool(v)), value[n:], true
		}
		return strconv.AppendInt(b, int64(int32(v)), 10), value[n:], true
	}
	return b, nil, false
}

// appendTo appends the JSON of a message.
func (t *Teller) appendTo(b, message []byte) ([]byte, bool) {
	var all records
	if !t.split(message, &all) {
		return b, false
	}
	b = append(b, '{')
	first := true
	for i := range t.order {
		if all[i] == nil {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		f := &t.order[i]
		b = append(appendQuoted(b, f.name, false), ':')
		ok := false
		if b, ok = f.appendTo(b, all[i]); !ok {
			return b, false
		}
	}
	return append(b, '}'), true
}
