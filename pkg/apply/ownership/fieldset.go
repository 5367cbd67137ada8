package ownership

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/direct"
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
	md := doc.Object.ProtoReflect().Descriptor()
	t := typeIn(md)
	s, ok := direct.Of(doc.Object, md)
	if !ok || !t.direct {
		return nil, false
	}
	w := setWriter{buf: append(buf, '{'), ok: true}
	first := true
	for i := range t.fields {
		f := &t.fields[i]
		if !f.wish || !f.direct.Has(s) || f.name == "metadata" && !hasWish(f.direct.Message(s), f.message()) {
			continue
		}
		w.field(&first, f, s, f.name == "metadata")
	}
	w.buf = append(w.buf, '}')
	return w.buf, w.ok && !first // the library has another form for an empty set
}

// hasWish tells whether metadata has a field that is owned.
func hasWish(meta direct.Struct, t *typeInfo) bool {
	for i := range t.fields {
		if f := &t.fields[i]; f.wishInMetadata && f.direct.Has(meta) {
			return true
		}
	}
	return false
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

func (w *setWriter) field(first *bool, f *fieldInfo, s direct.Struct, metadata bool) {
	w.step(first, "f:", f.name, "")
	switch {
	case f.isMap:
		w.entries(f.direct.Map(s))
	case f.name == "finalizers":
		w.ok = false
	case f.isList && f.keys != nil:
		w.items(f, s)
	case f.isList || !f.isMessage:
		w.buf = append(w.buf, "{}"...)
	default:
		w.buf = append(w.buf, '{')
		w.members(f.direct.Message(s), f.message(), true, metadata)
		w.buf = append(w.buf, '}')
	}
}

// members writes the fields of a message that are set. A message without any is a value of
// its own to the library.
func (w *setWriter) members(s direct.Struct, t *typeInfo, first, metadata bool) {
	some := false
	for i := range t.fields {
		if f := &t.fields[i]; (!metadata || f.wishInMetadata) && f.direct.Has(s) {
			w.field(&first, f, s, false)
			some = true
		}
	}
	w.ok = w.ok && some
}

func (w *setWriter) entries(m map[string]string) {
	var few [8]string
	names := few[:0]
	for name := range m {
		names = append(names, name)
	}
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
func (w *setWriter) items(f *fieldInfo, s direct.Struct) {
	if f.key == nil {
		w.ok = false
		return
	}
	type item struct {
		key string
		s   direct.Struct
	}
	var few [8]item
	items := few[:0]
	for i := range f.direct.Len(s) {
		it := item{s: f.direct.ItemMessage(s, i)}
		if w.ok = w.ok && f.keyField.Has(it.s); !w.ok {
			return
		}
		it.key = f.keyField.Text(it.s)
		items = append(items, it)
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.key, b.key) })
	w.buf = append(w.buf, '{')
	first := true
	for i := range items {
		w.step(&first, f.keyStep, items[i].key, `\"}`)
		w.buf = append(w.buf, `{".":{}`...)
		w.members(items[i].s, f.message(), false, false)
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

	isMap, isList, isMessage bool
	// direct reads the field, and keyField the key of its items, in their Go structs, when the
	// message is known so; below is the type of its messages.
	direct, keyField direct.Field
	below            atomic.Pointer[typeInfo]
}

// message returns the type of the field's messages.
func (f *fieldInfo) message() *typeInfo {
	if known := f.below.Load(); known != nil {
		return known
	}
	known := typeIn(f.fd.Message())
	f.below.Store(known)
	return known
}

func (f *fieldInfo) setKey() {
	if len(f.keys) != 1 {
		return
	}
	key := f.fd.Message().Fields().ByJSONName(f.keys[0])
	if key.Kind() == protoreflect.StringKind && !key.IsList() {
		f.keyField, _ = direct.FieldOf(key)
		f.key, f.keyStep = key, `k:{\"`+f.keys[0]+`\":\"`
	}
}

// typeInfo has the fields of a message by name, the order that sets have.
type typeInfo struct {
	fields []fieldInfo
	direct bool // they, and those of all messages below, can be read in their Go structs
}

// infos has the typeInfo of each message, by its descriptor: as many as the protos have.
var infos sync.Map

func typeIn(md protoreflect.MessageDescriptor) *typeInfo {
	if known, ok := infos.Load(md); ok {
		return known.(*typeInfo)
	}
	order := make([]protoreflect.FieldDescriptor, md.Fields().Len())
	for i := range order {
		order[i] = md.Fields().Get(i)
	}
	slices.SortFunc(order, func(a, b protoreflect.FieldDescriptor) int { return strings.Compare(a.JSONName(), b.JSONName()) })
	t := &typeInfo{fields: make([]fieldInfo, len(order)), direct: direct.Knows(md)}
	for i, fd := range order {
		f := &t.fields[i]
		f.fd, f.name = fd, fd.JSONName()
		f.isMap, f.isList, f.isMessage = fd.IsMap(), fd.IsList(), fd.Message() != nil && !fd.IsMap()
		f.direct, _ = direct.FieldOf(fd)
		f.wish, f.wishInMetadata = resource.IsWish(f.name, false), resource.IsWish(f.name, true)
		if fd.IsList() {
			f.keys = resource.ListKeys(fd)
			f.setKey()
		}
	}
	infos.Store(md, t)
	return t
}
