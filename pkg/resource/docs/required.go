package docs

import (
	"regexp"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	// maxProbeDepth bounds the nesting of the probes of Required; the deepest kind needs 8.
	maxProbeDepth = 16
	// maxProbeLists is how many lists inside one another get an item; Vhosts have two.
	maxProbeLists = 4
)

var listIndex = regexp.MustCompile(`\[[^]]*\]`)

// Required returns the paths of the fields that a document must have, without the indices
// of lists (spec.ports.name): those that the kind's own checks miss in an object that has
// nothing, and in objects that have every message and one empty item in the lists of the
// first n levels. So it cannot say otherwise than the checks do. A field of a message that may be left out is required
// where the message is there. Fields whose comment names a default are not: the probe lacks
// what the default comes from. Fields that are needed in some cases only are not found.
func Required(k *resource.Kind) map[string]bool {
	probes := []resource.Object{k.New()}
	if spec := k.Descriptor().Fields().ByJSONName("spec"); spec != nil {
		probes[0].ProtoReflect().Mutable(spec)
		for lists := range maxProbeLists + 1 {
			probe := k.New()
			fill(probe.ProtoReflect().Mutable(spec).Message(), lists, 0)
			probes = append(probes, probe)
		}
	}
	paths := map[string]bool{}
	for _, obj := range probes {
		if k.Default != nil {
			k.Default(obj)
		}
		for _, e := range k.Check(obj) {
			path := listIndex.ReplaceAllString(e.Path, "")
			if e.Reason == resource.ReasonRequired && !hasDefault(k.Descriptor(), path) {
				paths[path] = true
			}
		}
	}
	return paths
}

// hasDefault tells whether the comment of the field at path names a default.
func hasDefault(md protoreflect.MessageDescriptor, path string) bool {
	var fd protoreflect.FieldDescriptor
	for step := range strings.SplitSeq(path, ".") {
		if md == nil {
			return false
		}
		if fd = md.Fields().ByJSONName(step); fd == nil {
			return false
		}
		md = fd.Message()
	}
	return strings.Contains(Field(fd), "; default")
}

// fill sets every message and puts one empty item into every list of messages that is
// below less than lists others.
func fill(m protoreflect.Message, lists, depth int) {
	if depth > maxProbeDepth {
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch {
		case fd.Message() == nil || fd.IsMap():
		case !fd.IsList():
			fill(m.Mutable(fd).Message(), lists, depth+1)
		case lists > 0:
			fill(m.Mutable(fd).List().AppendMutable().Message(), lists-1, depth+1)
		}
	}
}
