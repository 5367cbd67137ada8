package resource

import (
	"bytes"
	"math"
	"strconv"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// plainObject reads one object from JSON in a small part of the time of the decoder: it
// writes the object as protobuf while it reads, in one pass, and lets protobuf make the rest.
// It takes what programs send, an object without a mistake in it, apiVersion and kind first.
// For everything else it answers false, and the decoder finds out what is wrong, or does what
// is rare: several documents, lists of objects, empty lists and mappings, which only the tree
// of a document tells from unset ones, numbers and texts in other forms.
func plainObject(reg *Registry, data []byte) (Object, bool) {
	if len(data) > MaxSourceBytes || len(data) == 0 || data[0] != '{' || !utf8.Valid(data) {
		return nil, false
	}
	kind := kindOfJSON(reg, data)
	if kind == nil {
		return nil, false
	}
	buf := wireBuffers.Get().(*[]byte)
	defer wireBuffers.Put(buf)
	w := wireWriter{data: data, buf: (*buf)[:0]}
	ok := w.message(wireTypeOf(kind.Descriptor()), 0) && w.peek() == 0 && w.at == len(data)
	if cap(w.buf) <= maxWireBuffer {
		*buf = w.buf
	}
	if !ok {
		return nil, false
	}
	obj := kind.typ.New().Interface().(Object)
	if proto.Unmarshal(w.buf, obj) != nil || obj.GetApiVersion() != APIVersion || obj.GetKind() != kind.Name || obj.GetMetadata().GetName() == "" {
		return nil, false
	}
	return obj, true
}

var wireBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxWireBuffer is the size up to which a buffer is kept for the next object.
const maxWireBuffer = 64 << 10

// kindOfJSON looks for the kind of an object, which must be one of its first two fields.
func kindOfJSON(reg *Registry, data []byte) *Kind {
	w := wireWriter{data: data, at: 1}
	for range 2 {
		key, ok := w.plainText()
		if !ok || w.peek() != ':' {
			return nil
		}
		w.at++
		value, ok := w.plainText()
		if !ok {
			return nil
		}
		if string(key) == "kind" {
			kind, _ := reg.Get(string(value))
			return kind
		}
		if string(key) != "apiVersion" || w.peek() != ',' {
			return nil
		}
		w.at++
	}
	return nil
}

// wireType is a message type as the wireWriter needs it.
type wireType struct {
	md     protoreflect.MessageDescriptor
	once   sync.Once // messages may be in themselves
	fields map[string]*wireField
}

type wireField struct {
	bit   int // among the fields of the message
	num   protowire.Number
	kind  protoreflect.Kind // of the value, the items, the values of the map
	list  bool
	isMap bool
	below *wireType // of a message
}

// wireTypes has the wireType of each message that was asked for: as many as the protos have.
var wireTypes sync.Map

func wireTypeOf(md protoreflect.MessageDescriptor) *wireType {
	if known, ok := wireTypes.Load(md); ok {
		return known.(*wireType)
	}
	known, _ := wireTypes.LoadOrStore(md, &wireType{md: md})
	return known.(*wireType)
}

// maxWireFields bounds the fields of a message that a wireWriter can tell apart.
const maxWireFields = 64

// get returns the fields by their JSON names; nil when there are too many.
func (t *wireType) get() map[string]*wireField {
	t.once.Do(func() {
		fields := t.md.Fields()
		if fields.Len() > maxWireFields {
			return
		}
		t.fields = make(map[string]*wireField, fields.Len())
		for i := range fields.Len() {
			fd := fields.Get(i)
			f := &wireField{bit: i, num: fd.Number(), kind: fd.Kind(), list: fd.IsList(), isMap: fd.IsMap()}
			switch {
			case f.isMap:
				f.kind = fd.MapValue().Kind()
			case fd.Message() != nil:
				f.below = wireTypeOf(fd.Message())
			}
			t.fields[fd.JSONName()] = f
		}
	})
	return t.fields
}

// wireWriter reads JSON and writes protobuf. Its methods answer false where the input is
// not as plainObject wants it.
type wireWriter struct {
	data []byte
	at   int
	buf  []byte
}

// peek skips white space and returns the next byte, 0 at the end.
func (w *wireWriter) peek() byte {
	for ; w.at < len(w.data); w.at++ {
		switch c := w.data[w.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// next takes the byte after an item: ',' for another one or the end.
func (w *wireWriter) next(end byte) (more, ok bool) {
	c := w.peek()
	w.at++
	return c == ',', c == ',' || c == end
}

// message writes the fields of an object in braces.
func (w *wireWriter) message(t *wireType, depth int) bool {
	fields := t.get()
	if fields == nil || depth > MaxDepth || w.peek() != '{' {
		return false
	}
	w.at++
	if w.peek() == '}' {
		w.at++
		return true
	}
	var seen uint64
	for {
		key, ok := w.plainText()
		if !ok || w.peek() != ':' {
			return false
		}
		w.at++
		f := fields[string(key)]
		if f == nil || seen&(1<<f.bit) != 0 {
			return false
		}
		seen |= 1 << f.bit
		if !w.field(f, depth) {
			return false
		}
		if more, ok := w.next('}'); !more || !ok {
			return ok
		}
	}
}

func (w *wireWriter) field(f *wireField, depth int) bool {
	c := w.peek()
	switch {
	case c == 'n':
		return w.word("null") // as if it were not there
	case f.isMap:
		return c == '{' && w.entries(f)
	case f.list:
		return c == '[' && w.items(f, depth)
	}
	return w.value(f, f.num, depth)
}

// items writes a list, which must have some.
func (w *wireWriter) items(f *wireField, depth int) bool {
	w.at++
	if w.peek() == ']' {
		return false
	}
	for {
		if !w.value(f, f.num, depth) {
			return false
		}
		if more, ok := w.next(']'); !more || !ok {
			return ok
		}
	}
}

// fewEntries is how many entries of a map are told apart here.
const fewEntries = 16

// entries writes a map, which must have some.
func (w *wireWriter) entries(f *wireField) bool {
	w.at++
	var keys [fewEntries][]byte
	for n := 0; n < fewEntries; n++ {
		key, ok := w.plainText()
		if !ok || w.peek() != ':' {
			return false
		}
		w.at++
		for _, other := range keys[:n] {
			if bytes.Equal(other, key) {
				return false
			}
		}
		keys[n] = key
		begin := w.open(f.num)
		w.buf = protowire.AppendBytes(protowire.AppendTag(w.buf, 1, protowire.BytesType), key)
		if !w.value(f, 2, 0) {
			return false
		}
		w.close(begin)
		if more, ok := w.next('}'); !more || !ok {
			return ok
		}
	}
	return false
}

// open begins something with a length; close ends it and writes the length.
func (w *wireWriter) open(num protowire.Number) (begin int) {
	w.buf = append(protowire.AppendTag(w.buf, num, protowire.BytesType), 0)
	return len(w.buf)
}

func (w *wireWriter) close(begin int) {
	n := len(w.buf) - begin
	size := protowire.SizeVarint(uint64(n))
	if size > 1 { // one byte was left for it
		w.buf = append(w.buf, make([]byte, size-1)...)
		copy(w.buf[begin-1+size:], w.buf[begin:begin+n])
	}
	protowire.AppendVarint(w.buf[:begin-1], uint64(n))
}

// value writes a value that is no list or map.
func (w *wireWriter) value(f *wireField, num protowire.Number, depth int) bool {
	switch f.kind {
	case protoreflect.MessageKind:
		begin := w.open(num)
		if !w.message(f.below, depth+1) {
			return false
		}
		w.close(begin)
		return true
	case protoreflect.StringKind:
		return w.text(num)
	case protoreflect.BoolKind:
		w.buf = protowire.AppendTag(w.buf, num, protowire.VarintType)
		if w.peek() == 't' {
			w.buf = append(w.buf, 1)
			return w.word("true")
		}
		w.buf = append(w.buf, 0)
		return w.word("false")
	case protoreflect.Int32Kind:
		return w.number(num)
	}
	return false
}

// word takes a word that has to be there. What comes after it has to be a comma or a
// bracket, so it needs no look here.
func (w *wireWriter) word(text string) bool {
	w.peek()
	end := w.at + len(text)
	if end > len(w.data) || string(w.data[w.at:end]) != text {
		return false
	}
	w.at = end
	return true
}

func (w *wireWriter) number(num protowire.Number) bool {
	negative := w.peek() == '-'
	if negative {
		w.at++
	}
	begin, n := w.at, int64(0)
	for ; w.at < len(w.data) && w.data[w.at] >= '0' && w.data[w.at] <= '9'; w.at++ {
		if n = 10*n + int64(w.data[w.at]-'0'); n > -math.MinInt32 {
			return false
		}
	}
	if w.at == begin || w.data[begin] == '0' && w.at > begin+1 {
		return false
	}
	if negative {
		n = -n
	}
	if n > math.MaxInt32 {
		return false
	}
	w.buf = protowire.AppendVarint(protowire.AppendTag(w.buf, num, protowire.VarintType), uint64(n))
	return true
}

// plainText reads a text without anything escaped in it, as it is in the data.
func (w *wireWriter) plainText() ([]byte, bool) {
	if w.peek() != '"' {
		return nil, false
	}
	begin := w.at + 1
	for i := begin; i < len(w.data); i++ {
		switch c := w.data[i]; {
		case c == '"':
			w.at = i + 1
			return w.data[begin:i], true
		case c == '\\' || c < ' ':
			return nil, false
		}
	}
	return nil, false
}

// text writes a text.
func (w *wireWriter) text(num protowire.Number) bool {
	if plain, ok := w.plainText(); ok {
		w.buf = protowire.AppendBytes(protowire.AppendTag(w.buf, num, protowire.BytesType), plain)
		return true
	}
	if w.peek() != '"' {
		return false
	}
	begin, from := w.open(num), w.at+1
	for i := from; i < len(w.data); i++ {
		switch c := w.data[i]; {
		case c == '"':
			w.buf = append(w.buf, w.data[from:i]...)
			w.at = i + 1
			w.close(begin)
			return true
		case c < ' ':
			return false
		case c == '\\':
			w.buf = append(w.buf, w.data[from:i]...)
			n := w.escape(w.data[i:])
			if n == 0 {
				return false
			}
			i += n - 1
			from = i + 1
		}
	}
	return false
}

// escapes are what the character after a backslash stands for.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape writes what an escape at the beginning of data stands for and returns its length;
// 0: it is none, or half of a pair.
func (w *wireWriter) escape(data []byte) int {
	if len(data) < 2 {
		return 0
	}
	if c := escapes[data[1]]; c != 0 {
		w.buf = append(w.buf, c)
		return 2
	}
	const length = len(`\u0000`)
	if data[1] != 'u' || len(data) < length || data[2] == '+' || data[2] == '-' {
		return 0
	}
	r, err := strconv.ParseUint(string(data[2:length]), 16, 16)
	if err != nil || r >= 0xd800 && r < 0xe000 {
		return 0
	}
	w.buf = utf8.AppendRune(w.buf, rune(r))
	return length
}
