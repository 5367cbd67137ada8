package kinds

import (
	"regexp"
	"slices"
	"strings"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// multiLine lists the fields that may hold several lines, by kind and path without
// indexes. They still hold no NUL.
var multiLine = map[string]bool{
	"Namespace spec.description": true,
	"Cluster spec.caBundle":      true,
	"App spec.files[].content":   true,
	"App spec.commands[].argv[]": true,
	"Secret spec.stringData[]":   true,
	"Secret spec.data[]":         true, // base64, often in lines
}

// withCommonRules adds the rules about text in one line and about references to Secrets to a
// kind's own checks.
func withCommonRules(validate func(resource.Object) resource.FieldErrors) func(resource.Object) resource.FieldErrors {
	return func(o resource.Object) resource.FieldErrors {
		var p problems
		if spec, ok := resource.Field(o, "spec"); ok {
			oneLineMessage(&p, spec, o.GetKind()+" ", "spec")
		}
		validateSecretRefs(o, &p)
		if validate == nil {
			return p.errs
		}
		return append(p.errs, validate(o)...)
	}
}

func oneLineMessage(p *problems, m protoreflect.Message, kind, path string) {
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if !m.Has(fd) {
			continue
		}
		at, v := resource.JoinPath(path, fd.JSONName()), m.Get(fd)
		switch {
		case fd.IsList():
			for i := range v.List().Len() {
				oneLineValue(p, v.List().Get(i), kind, resource.IndexPath(at, i))
			}
		case fd.IsMap():
			oneLineMap(p, v.Map(), kind, at)
		default:
			oneLineValue(p, v, kind, at)
		}
	}
}

func oneLineMap(p *problems, m protoreflect.Map, kind, path string) {
	var keys []string
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	for _, key := range keys {
		at := resource.KeyPath(path, key)
		checkLine(p, key, false, at)
		oneLineValue(p, m.Get(protoreflect.ValueOfString(key).MapKey()), kind, at)
	}
}

func oneLineValue(p *problems, v protoreflect.Value, kind, path string) {
	switch v := v.Interface().(type) {
	case protoreflect.Message:
		oneLineMessage(p, v, kind, path)
	case string:
		if !strings.ContainsFunc(v, endsLine) {
			return // nearly all; which rule holds for the field need not be found out
		}
		checkLine(p, v, multiLine[kind+indexes.ReplaceAllString(path, "[]")], path)
	}
}

var indexes = regexp.MustCompile(`\[[^]]*\]`)

func checkLine(p *problems, s string, multi bool, path string) {
	switch {
	case multi:
		if strings.ContainsRune(s, 0) {
			p.invalid(path, s, "text without NUL characters")
		}
	case strings.ContainsFunc(s, endsLine):
		p.invalid(path, s, "one line without control characters")
	}
}

// endsLine tells whether some reader of files takes the character for the end of a line or
// for a command to the terminal.
func endsLine(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
