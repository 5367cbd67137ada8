package resource

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource/direct"
)

// The annotations of buf.validate are evaluated here and not by its library: with that, an
// idle daemon had 7 MiB more in memory (43 in place of 36) and each program was 6 MB larger, for the
// language CEL, which none of our rules needs. What is not evaluated here is refused when a
// registry is built, and a test compares the outcome with the library's on random objects.

// violation is one broken rule.
type violation struct {
	path  string
	fd    protoreflect.FieldDescriptor
	item  bool                 // of an item of a list or an entry of a map, not of the whole
	rule  string               // as buf.validate names it: int32.gte, string.pattern, required
	of    *validate.FieldRules // that the rule is in
	value protoreflect.Value
}

// program is what there is to check in the messages of one type.
type program struct {
	steps []step
	// nothing: neither here nor below.
	nothing bool
}

// step is a field that has rules, or messages that have some.
type step struct {
	fd       protoreflect.FieldDescriptor
	direct   direct.Field // when the kind is direct
	isMap    bool
	isList   bool
	presence bool
	// low and high bound the length of a map or list.
	low, high *uint64
	rules     *validate.FieldRules // nil: none of its own
	required  bool
	whole     check // of the field
	items     check // of each item, or each value of a map
	keys      check // of the keys of a map
	below     *program
}

// check returns the names of the rules that a value breaks.
type check func(v protoreflect.Value) []string

// compiler has the programs of message types, which may contain themselves.
type compiler map[protoreflect.FullName]*program

// message returns the program of a message type, or what it has that is not supported.
func (c compiler) message(md protoreflect.MessageDescriptor) (*program, error) {
	if p := c[md.FullName()]; p != nil {
		return p, nil
	}
	if proto.HasExtension(md.Options(), validate.E_Message) {
		return nil, fmt.Errorf("message %s: rules of messages are not supported", md.FullName())
	}
	p := &program{}
	c[md.FullName()] = p
	for i := range md.Fields().Len() {
		s, err := c.field(md.Fields().Get(i))
		if err != nil {
			delete(c, md.FullName())
			return nil, err
		}
		if s.rules != nil || s.below != nil && !s.below.nothing {
			p.steps = append(p.steps, s)
		}
	}
	p.nothing = len(p.steps) == 0
	return p, nil
}

func (c compiler) field(fd protoreflect.FieldDescriptor) (step, error) {
	s, err := stepOf(fd, annotationsOf(fd))
	if err != nil {
		return s, fmt.Errorf("field %s: %w", fd.FullName(), err)
	}
	if fd.Message() != nil && !fd.IsMap() {
		s.below, err = c.message(fd.Message())
	}
	return s, err
}

func stepOf(fd protoreflect.FieldDescriptor, r *validate.FieldRules) (s step, err error) {
	s = step{fd: fd, isMap: fd.IsMap(), isList: fd.IsList(), presence: fd.HasPresence(), rules: r, required: r.GetRequired()}
	s.direct, _ = direct.FieldOf(fd)
	switch {
	case fd.IsMap():
		if m := r.GetMap(); m != nil {
			s.low, s.high = m.MinPairs, m.MaxPairs
		}
		s.whole, s.keys, s.items, err = mapChecks(r, !IsSensitive(fd))
	case fd.IsList():
		if l := r.GetRepeated(); l != nil {
			s.low, s.high = l.MinItems, l.MaxItems
		}
		s.whole, s.items, err = listChecks(r, !IsSensitive(fd))
	default:
		s.whole, err = scalarCheck(r, !IsSensitive(fd))
	}
	return s, err
}

// run adds what the message at path breaks.
func (p *program) run(found []violation, m protoreflect.Message, path string) []violation {
	for i := range p.steps {
		s := &p.steps[i]
		at := JoinPath(path, s.fd.JSONName())
		has := m.Has(s.fd)
		if s.required && !has {
			found = append(found, violation{path: at, fd: s.fd, rule: "required", of: s.rules})
			continue
		}
		if has || !s.fd.HasPresence() { // a field that cannot be unset is always checked
			found = s.run(found, m.Get(s.fd), at)
		}
	}
	return found
}

func (s *step) run(found []violation, v protoreflect.Value, at string) []violation {
	found = s.broken(found, s.whole, v, at, false, s.rules)
	switch {
	case s.fd.IsMap():
		keys := make([]string, 0, v.Map().Len())
		v.Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
			keys = append(keys, k.String())
			return true
		})
		slices.Sort(keys)
		for _, key := range keys {
			k := protoreflect.ValueOfString(key)
			found = s.broken(found, s.keys, k, KeyPath(at, key), true, s.rules.GetMap().GetKeys())
			found = s.broken(found, s.items, v.Map().Get(k.MapKey()), KeyPath(at, key), true, s.rules.GetMap().GetValues())
		}
	case s.fd.IsList() && (s.items != nil || s.below != nil):
		for i := range v.List().Len() {
			item, path := v.List().Get(i), IndexPath(at, i)
			found = s.broken(found, s.items, item, path, true, s.rules.GetRepeated().GetItems())
			if s.below != nil {
				found = s.below.run(found, item.Message(), path)
			}
		}
	case s.below != nil && !s.fd.IsList():
		found = s.below.run(found, v.Message(), at)
	}
	return found
}

func (s *step) broken(found []violation, c check, v protoreflect.Value, path string, item bool, of *validate.FieldRules) []violation {
	if c == nil {
		return found
	}
	for _, rule := range c(v) {
		found = append(found, violation{path: path, fd: s.fd, item: item, rule: rule, of: of, value: v})
	}
	return found
}

// only refuses rules other than those named: what would not be checked must not be written.
func only(m proto.Message, names ...protoreflect.Name) (err error) {
	m.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !slices.Contains(names, fd.Name()) {
			err = fmt.Errorf("the rule %s is not supported", strings.TrimPrefix(string(fd.FullName()), "buf.validate."))
		}
		return err == nil
	})
	return err
}

func mapChecks(r *validate.FieldRules, mayKeep bool) (whole, keys, values check, err error) {
	if r == nil {
		return nil, nil, nil, nil
	}
	if err = only(r, "required", "map"); err == nil {
		err = only(r.GetMap(), "min_pairs", "max_pairs", "keys", "values")
	}
	if err != nil {
		return nil, nil, nil, err
	}
	m := cmp.Or(r.GetMap(), &validate.MapRules{})
	if keys, err = scalarCheck(m.GetKeys(), mayKeep); err == nil {
		values, err = scalarCheck(m.GetValues(), mayKeep)
	}
	return func(v protoreflect.Value) []string {
		return sized(uint64(v.Map().Len()), m.MinPairs, m.MaxPairs, "map.min_pairs", "map.max_pairs")
	}, keys, values, err
}

func listChecks(r *validate.FieldRules, mayKeep bool) (whole, items check, err error) {
	if r == nil {
		return nil, nil, nil
	}
	if err = only(r, "required", "repeated"); err == nil {
		err = only(r.GetRepeated(), "min_items", "max_items", "items")
	}
	if err != nil {
		return nil, nil, err
	}
	l := cmp.Or(r.GetRepeated(), &validate.RepeatedRules{})
	items, err = scalarCheck(l.GetItems(), mayKeep)
	return func(v protoreflect.Value) []string {
		return sized(uint64(v.List().Len()), l.MinItems, l.MaxItems, "repeated.min_items", "repeated.max_items")
	}, items, err
}

func sized(n uint64, low, high *uint64, tooFew, tooMany string) []string {
	switch {
	case low != nil && n < *low:
		return []string{tooFew}
	case high != nil && n > *high:
		return []string{tooMany}
	}
	return nil
}

// scalarCheck is the check of one value: of a field, an item, a key. mayKeep: a value may be
// kept in memory.
func scalarCheck(r *validate.FieldRules, mayKeep bool) (check, error) {
	switch {
	case r == nil:
		return nil, nil
	case r.GetInt32() != nil:
		return int32Check(r)
	case r.GetString() != nil:
		return stringCheck(r, mayKeep)
	}
	return nil, only(r, "required")
}

func int32Check(r *validate.FieldRules) (check, error) {
	if err := only(r, "required", "int32"); err != nil {
		return nil, err
	}
	if err := only(r.GetInt32(), "gte", "lte"); err != nil {
		return nil, err
	}
	b := boundsOf(r)
	name := "int32.gte"
	if b.Min != nil && b.Max != nil {
		if *b.Max < *b.Min {
			return nil, fmt.Errorf("int32.lte %d is below int32.gte %d", *b.Max, *b.Min)
		}
		name = "int32.gte_lte"
	} else if b.Max != nil {
		name = "int32.lte"
	}
	return func(v protoreflect.Value) []string {
		if n := int32(v.Int()); b.Min != nil && n < *b.Min || b.Max != nil && n > *b.Max {
			return []string{name}
		}
		return nil
	}, nil
}

func stringCheck(r *validate.FieldRules, mayKeep bool) (check, error) {
	if err := only(r, "required", "string"); err != nil {
		return nil, err
	}
	s := r.GetString()
	if err := only(s, "min_len", "max_len", "min_bytes", "max_bytes", "pattern", "not_contains"); err != nil {
		return nil, err
	}
	if _, err := syntax.Parse(s.GetPattern(), syntax.Perl); err != nil {
		return nil, err
	}
	// Compiling takes far longer than parsing: programs that check nothing shall not wait.
	pattern := matcher{compiled: sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(s.GetPattern()) }), mayKeep: mayKeep}
	return func(v protoreflect.Value) []string {
		text := v.String()
		broken := sized(uint64(len(text)), s.MinBytes, s.MaxBytes, "string.min_bytes", "string.max_bytes")
		if s.MinLen != nil || s.MaxLen != nil {
			broken = append(broken, sized(uint64(utf8.RuneCountInString(text)), s.MinLen, s.MaxLen, "string.min_len", "string.max_len")...)
		}
		if s.Pattern != nil && !pattern.matches(text) {
			broken = append(broken, "string.pattern")
		}
		if s.NotContains != nil && strings.Contains(text, s.GetNotContains()) {
			broken = append(broken, "string.not_contains")
		}
		return broken
	}, nil
}

// matcher is a pattern that remembers texts that it matched: most values of a field are the
// same few in all objects, and comparing takes a small part of the time of matching.
type matcher struct {
	compiled func() *regexp.Regexp
	mayKeep  bool
	known    [32]atomic.Pointer[string]
}

// maxKnownText bounds a text that is remembered.
const maxKnownText = 64

var matcherSeed = maphash.MakeSeed()

func (m *matcher) matches(text string) bool {
	if !m.mayKeep || len(text) > maxKnownText {
		return m.compiled().MatchString(text)
	}
	slot := &m.known[maphash.String(matcherSeed, text)%uint64(len(m.known))]
	if known := slot.Load(); known != nil && *known == text {
		return true
	}
	if !m.compiled().MatchString(text) {
		return false
	}
	kept := strings.Clone(text)
	slot.Store(&kept)
	return true
}
