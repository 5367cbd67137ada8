package kinds

import (
	"slices"
	"strings"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// withCommonRules adds the rules about text in one line and about references to Secrets to a
// kind's own checks.
func withCommonRules(validate func(resource.Object) resource.FieldErrors) func(resource.Object) resource.FieldErrors {
	return func(o resource.Object) resource.FieldErrors {
		var p problems
		if spec, ok := resource.Field(o, "spec"); ok {
			oneLineMessage(&p, spec, "spec")
		}
		validateSecretRefs(o, &p)
		if validate == nil {
			return p.errs
		}
		return append(p.errs, validate(o)...)
	}
}

func oneLineMessage(p *problems, m protoreflect.Message, path string) {
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if !m.Has(fd) {
			continue
		}
		at, v := resource.JoinPath(path, fd.JSONName()), m.Get(fd)
		multi := resource.Multiline(fd)
		switch {
		case fd.IsList():
			for i := range v.List().Len() {
				oneLineValue(p, v.List().Get(i), multi, resource.IndexPath(at, i))
			}
		case fd.IsMap():
			oneLineMap(p, v.Map(), multi, at)
		default:
			oneLineValue(p, v, multi, at)
		}
	}
}

func oneLineMap(p *problems, m protoreflect.Map, multi bool, path string) {
	var keys []string
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	for _, key := range keys {
		at := resource.KeyPath(path, key)
		checkLine(p, key, false, at)
		oneLineValue(p, m.Get(protoreflect.ValueOfString(key).MapKey()), multi, at)
	}
}

func oneLineValue(p *problems, v protoreflect.Value, multi bool, path string) {
	switch v := v.Interface().(type) {
	case protoreflect.Message:
		oneLineMessage(p, v, path)
	case string:
		checkLine(p, v, multi, path)
	}
}

// checkLine: fields with the option (multiline) may hold several lines, but still no NUL.
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
