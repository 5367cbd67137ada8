package resource

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// rules are the options of a field that are asked for with every value of it.
type rules struct {
	allowed   []string // values of a text; nil: any
	listKeys  []string
	multiline bool
	sensitive bool
}

// rulesByField has the rules of fields that were asked for, by descriptor: as many as the
// protos have. Reading an option takes longer than checking a value.
var rulesByField sync.Map

func rulesOf(fd protoreflect.FieldDescriptor) *rules {
	if known, ok := rulesByField.Load(fd); ok {
		return known.(*rules)
	}
	allowed, _ := proto.GetExtension(fd.Options(), v1alpha1.E_Allowed).(string)
	listKeys, _ := proto.GetExtension(fd.Options(), v1alpha1.E_ListKeys).(string)
	multiline, _ := proto.GetExtension(fd.Options(), v1alpha1.E_Multiline).(bool)
	sensitive, _ := proto.GetExtension(fd.Options(), v1alpha1.E_Sensitive).(bool)
	r := &rules{allowed: words(allowed), listKeys: words(listKeys), multiline: multiline, sensitive: sensitive}
	rulesByField.Store(fd, r)
	return r
}

// Multiline tells whether the text of a field may have several lines.
func Multiline(fd protoreflect.FieldDescriptor) bool { return rulesOf(fd).multiline }

// words are those of an option, nil when it is not set.
func words(option string) []string {
	if option == "" {
		return nil
	}
	return strings.Split(option, ",")
}
