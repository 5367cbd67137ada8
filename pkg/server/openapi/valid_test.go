package openapi

import (
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// Somebody else's reading of the specification finds nothing wrong with the document.
func TestDocumentIsValid(t *testing.T) {
	raw, err := Document(kinds.Registry(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	// What it makes of the schemas is what the server takes and answers.
	app := doc.Components.Schemas["App"].Value
	good := map[string]any{"apiVersion": "proximity/v1alpha1", "kind": "App", "metadata": map[string]any{"name": "a"}}
	if err := app.VisitJSON(good); err != nil {
		t.Errorf("an App is refused: %v", err)
	}
	for name, wrong := range map[string]any{
		"another kind":  map[string]any{"apiVersion": "proximity/v1alpha1", "kind": "Bridge", "metadata": map[string]any{}},
		"unknown field": map[string]any{"apiVersion": "proximity/v1alpha1", "kind": "App", "metadata": map[string]any{}, "spce": map[string]any{}},
		"no metadata":   map[string]any{"apiVersion": "proximity/v1alpha1", "kind": "App"},
	} {
		if err := app.VisitJSON(wrong); err == nil {
			t.Errorf("%s: taken for an App", name)
		}
	}
}
