package server

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// selection says which objects of a kind are meant. The zero value means all.
type selection struct {
	namespace string
	name      string
	labels    labels.Selector // nil: all
	fields    []fieldTerm     // beside name and namespace
}

// pageRequest says which part of a list is meant. The zero value means all of it.
type pageRequest struct {
	limit int
	token string // of the page before
	// encoded asks for the objects' bytes; kinds with sensitive values have none to show.
	encoded bool
}

// selectLabels parses a label selector in Kubernetes' syntax.
func selectLabels(text string) (labels.Selector, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > MaxSelectorBytes {
		return nil, apistatus.New(apistatus.BadRequest, "label selector has %d bytes, allowed are %d", len(text), MaxSelectorBytes)
	}
	sel, err := labels.Parse(text)
	if err != nil {
		return nil, apistatus.New(apistatus.BadRequest, "label selector: %v", err)
	}
	if sel.Empty() {
		return nil, nil
	}
	return sel, nil
}

// selectableFields are the fields that objects can be selected by, beside metadata.name and
// metadata.namespace, where their kind has them: those that say what state an object is in
// or, of an Event, what it is about. It is a short list so that an index can serve it.
var selectableFields = []string{
	"status.phase", "status.state", "type", "reason", "regarding.kind", "regarding.name", "regarding.uid",
}

// fieldTerm is field=value or field!=value.
type fieldTerm struct {
	path, value string
	not         bool
}

// selectFields narrows the selection of objects of a kind (nil: of all kinds) by a field
// selector: terms field=value, field==value and field!=value, joined by commas; all must
// hold. A field that is not set has the value "". What cannot be selected by is refused,
// for ignoring a selector would answer too much.
func (s *selection) selectFields(kind *resource.Kind, text string) error {
	if text == "" {
		return nil
	}
	if len(text) > MaxSelectorBytes {
		return apistatus.New(apistatus.BadRequest, "field selector has %d bytes, allowed are %d", len(text), MaxSelectorBytes)
	}
	allowed := fieldsOf(kind)
	for term := range strings.SplitSeq(text, ",") {
		field, value, ok := strings.Cut(term, "=")
		field, not := strings.CutSuffix(field, "!")
		if !not {
			value = strings.TrimPrefix(value, "=")
		}
		if !ok || !slices.Contains(allowed, field) {
			return apistatus.New(apistatus.BadRequest, "field selector %q: allowed are field=value and field!=value with the fields %s",
				term, strings.Join(allowed, ", "))
		}
		if not || !strings.HasPrefix(field, "metadata.") {
			s.fields = append(s.fields, fieldTerm{field, value, not})
			continue
		}
		target := map[string]*string{"metadata.name": &s.name, "metadata.namespace": &s.namespace}[field]
		if value == "" {
			return apistatus.New(apistatus.BadRequest, "field selector %q: a value is needed", term)
		}
		if *target != "" && *target != value {
			return apistatus.New(apistatus.BadRequest, "field selector %q contradicts %q", term, *target)
		}
		*target = value
	}
	return nil
}

// fieldsOf returns the fields that objects of a kind can be selected by.
func fieldsOf(kind *resource.Kind) []string {
	fields := []string{"metadata.name", "metadata.namespace"}
	if kind == nil {
		return fields
	}
	for _, path := range selectableFields {
		if kind.HasField(path) {
			fields = append(fields, path)
		}
	}
	return fields
}

// narrowed tells whether a change can take an object in or out of the selection.
func (s *selection) narrowed() bool { return s.labels != nil || len(s.fields) > 0 }

// matches tells whether the object has the labels and fields that are selected by.
func (s *selection) matches(obj resource.Object) bool {
	for _, f := range s.fields {
		if (resource.Cell(obj, f.path) == f.value) == f.not {
			return false
		}
	}
	return s.labels == nil || s.labels.Matches(labels.Set(obj.GetMetadata().GetLabels()))
}

// match returns the store's filter, nil when everything matches.
func (s *selection) match() func(resource.Object) bool {
	if s.name == "" && !s.narrowed() {
		return nil
	}
	return func(obj resource.Object) bool {
		return (s.name == "" || obj.GetMetadata().GetName() == s.name) && s.matches(obj)
	}
}
