package server

import (
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
}

// pageRequest says which part of a list is meant. The zero value means all of it.
type pageRequest struct {
	limit int
	token string // of the page before
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

// selectFields narrows the selection by a field selector. Only names can be selected by;
// everything else is refused, for ignoring a selector would answer too much.
func (s *selection) selectFields(text string) error {
	if text == "" {
		return nil
	}
	if len(text) > MaxSelectorBytes {
		return apistatus.New(apistatus.BadRequest, "field selector has %d bytes, allowed are %d", len(text), MaxSelectorBytes)
	}
	for term := range strings.SplitSeq(text, ",") {
		field, value, ok := strings.Cut(term, "=")
		value = strings.TrimPrefix(value, "=")
		target := map[string]*string{"metadata.name": &s.name, "metadata.namespace": &s.namespace}[field]
		if !ok || target == nil || value == "" {
			return apistatus.New(apistatus.BadRequest,
				"field selector %q: allowed are metadata.name=NAME and metadata.namespace=NAMESPACE", term)
		}
		if *target != "" && *target != value {
			return apistatus.New(apistatus.BadRequest, "field selector %q contradicts %q", term, *target)
		}
		*target = value
	}
	return nil
}

// matches tells whether the object's labels match the label selector.
func (s *selection) matches(obj resource.Object) bool {
	return s.labels == nil || s.labels.Matches(labels.Set(obj.GetMetadata().GetLabels()))
}

// match returns the store's filter, nil when everything matches.
func (s *selection) match() func(resource.Object) bool {
	if s.name == "" && s.labels == nil {
		return nil
	}
	return func(obj resource.Object) bool {
		return (s.name == "" || obj.GetMetadata().GetName() == s.name) && s.matches(obj)
	}
}
