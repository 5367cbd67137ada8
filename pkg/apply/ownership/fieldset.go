package ownership

import (
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// fieldSet returns the FieldsV1 of what a document says, written straight from its object:
// byte for byte what the library makes of the document's wish, at a small part of the cost.
// It answers false for the rarer documents that it leaves to the library: those with empty
// lists, mappings or messages, with finalizers, with list keys that are left out or are not
// one plain text, or with text that JSON has to escape.
func fieldSet(doc resource.Document) (string, bool) {
	fields, ok := appendFieldSet(make([]byte, 0, 1024), doc)
	return string(fields), ok
}

// appendFieldSet is fieldSet into a buffer that begins empty.
func appendFieldSet(buf []byte, doc resource.Document) ([]byte, bool) {
	if doc.HasEmpty() {
		return nil, false
	}
	w := setWriter{buf: buf, ok: true}
	m := doc.Object.ProtoReflect()
	w.buf = append(w.buf, '{')
	first := true
	fields := fieldsIn(m.Descriptor())
	for i := range fields {
		f := &fields[i]
		if !m.Has(f.fd) || !f.wish || f.name == "metadata" && !hasWish(m.Get(f.fd).Message()) {
			continue
		}
		w.field(&first, f, m.Get(f.fd), f.name == "metadata")
	}
	w.buf = append(w.buf, '}')
	return w.buf, w.ok && !first // the library has another form for an empty set
}

// hasWish tells whether metadata has a field that is owned.
func hasWish(meta protoreflect.Message) bool {
	return slices.ContainsFunc(fieldsIn(meta.Descriptor()), func(f fieldInfo) bool {
		return f.wishInMetadata && meta.Has(f.fd)
	})
}

// setWriter writes a set; ok turns false when the document is one for the library.
type setWriter struct {
	buf []byte
	ok  bool
}

// step writes the name of a member of the set that is being written.
func (w *setWriter) step(first *bool, prefix, name, suffix string) {
	if !*first {
		w.buf = append(w.buf, ',')
	}
	*first = false
	w.ok = w.ok && isPlain(name)
	w.buf = append(w.buf, '"')
	w.buf = append(w.buf, prefix...)
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, suffix...)
	w.buf = append(w.buf, `":`...)
}

func (w *setWriter) field(first *bool, f *fieldInfo, v protoreflect.Value, metadata bool) {
	w.step(first, "f:", f.name, "")
	switch {
	case f.fd.IsMap():
		w.entries(v.Map())
	case f.name == "finalizers":
		w.ok = false
	case f.fd.IsList() && f.keys != nil:
		w.items(f, v.List())
	case f.fd.IsList():
		w.buf = append(w.buf, "{}"...)
	case f.fd.Message() != nil:
		w.buf = append(w.buf, '{')
		w.members(v.Message(), true, metadata)
		w.buf = append(w.buf, '}')
	default:
		w.buf = append(w.buf, "{}"...)
	}
}

// members writes the fields of a message that are set. A message without any is a value of
// its own to the library.
func (w *setWriter) members(m protoreflect.Message, first, metadata bool) {
	some := false
	fields := fieldsIn(m.Descriptor())
	for i := range fields {
		if f := &fields[i]; m.Has(f.fd) && (!metadata || f.wishInMetadata) {
			w.field(&first, f, m.Get(f.fd), false)
			some = true
		}
	}
	w.ok = w.ok && some
}

func (w *setWriter) entries(m protoreflect.Map) {
	var few [8]string
	names := few[:0]
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		names = append(names, k.String())
		return true
	})
	slices.Sort(names)
	w.buf = append(w.buf, '{')
	first := true
	for _, name := range names {
		w.step(&first, "f:", name, "")
		w.buf = append(w.buf, "{}"...)
	}
	w.buf = append(w.buf, '}')
}

// items writes the items of a list that is merged by one key, in the order of that.
func (w *setWriter) items(f *fieldInfo, list protoreflect.List) {
	key := f.key
	if key == nil {
		w.ok = false
		return
	}
	var few [8]protoreflect.Message
	items := few[:0]
	for i := range list.Len() {
		item := list.Get(i).Message()
		items = append(items, item)
		w.ok = w.ok && item.Has(key)
	}
	slices.SortFunc(items, func(a, b protoreflect.Message) int {
		return strings.Compare(a.Get(key).String(), b.Get(key).String())
	})
	w.buf = append(w.buf, '{')
	first := true
	for _, item := range items {
		w.step(&first, f.keyStep, item.Get(key).String(), `\"}`)
		w.buf = append(w.buf, `{".":{}`...)
		w.members(item, false, false)
		w.buf = append(w.buf, '}')
	}
	w.buf = append(w.buf, '}')
}

// isPlain tells whether text is the same in JSON, and in JSON in JSON.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// fieldInfo is a field of a message and how it is owned.
type fieldInfo struct {
	fd   protoreflect.FieldDescriptor
	name string
	keys []string // of a list that is merged by them
	// key is the field that tells items apart, nil when that takes more than one text.
	key     protoreflect.FieldDescriptor
	keyStep string // what names of items begin with
	// wish and wishInMetadata tell whether the field is part of a wish: of an object, and of
	// its metadata.
	wish, wishInMetadata bool
}

func (f *fieldInfo) setKey() {
	if len(f.keys) != 1 {
		return
	}
	key := f.fd.Message().Fields().ByJSONName(f.keys[0])
	if key.Kind() == protoreflect.StringKind && !key.IsList() {
		f.key, f.keyStep = key, `k:{\"`+f.keys[0]+`\":\"`
	}
}

// infos has the fields of each message, by its descriptor: as many as the protos have.
var infos sync.Map

// fieldsIn returns the fields of a message by name, the order that sets have.
func fieldsIn(md protoreflect.MessageDescriptor) []fieldInfo {
	if known, ok := infos.Load(md); ok {
		return known.([]fieldInfo)
	}
	var fields []fieldInfo
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		f := fieldInfo{fd: fd, name: fd.JSONName()}
		f.wish, f.wishInMetadata = resource.IsWish(f.name, false), resource.IsWish(f.name, true)
		if fd.IsList() {
			f.keys = resource.ListKeys(fd)
			f.setKey()
		}
		fields = append(fields, f)
	}
	slices.SortFunc(fields, func(a, b fieldInfo) int { return strings.Compare(a.name, b.name) })
	infos.Store(md, fields)
	return fields
}
