package server

import (
	"encoding/json"
	"net/http"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// applyCollection is the path segment of the set; no kind may have it as its plural.
const applyCollection = "apply"

func applyOptions(r *http.Request) (apply.Options, error) {
	dry, err := dryRun(r)
	return apply.Options{Manager: managerOr(r.URL.Query().Get("fieldManager")), DryRun: dry}, err
}

// applyOne is PATCH of one object with an apply body.
func (s *rest) applyOne(w http.ResponseWriter, r *http.Request, c call) error {
	opts, err := applyOptions(r)
	if err != nil {
		return err
	}
	w.Header().Set("Accept-Patch", typeApply)
	b, err := s.readBody(w, r, typeApply)
	if err != nil {
		return err
	}
	defer b.release()
	if r.Header.Get("Content-Type") == "" { // the other patch types would mean something else
		return apistatus.New(apistatus.UnsupportedMediaType, "a content type is needed, supported is: %s", typeApply)
	}
	doc, err := s.core.decodeOne("", b.data)
	if err != nil {
		return err
	}
	if err := matchPath(doc.Object, c); err != nil {
		return err
	}
	results, err := s.core.applySet(r.Context(), []resource.Document{doc}, opts)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if results[0].Outcome == apply.Created {
		code = http.StatusCreated
	}
	return writeObject(w, r, code, results[0].Object, nil)
}

// applyResult is one item of the answer to a set.
type applyResult struct {
	Kind      string          `json:"kind"`
	Namespace string          `json:"namespace,omitempty"`
	Name      string          `json:"name"`
	Result    string          `json:"result"`
	Object    json.RawMessage `json:"object,omitempty"`
}

type applyResultList struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Items      []applyResult `json:"items"`
}

// applySet is POST of a set of documents: all of them or none. ?source= names the text
// in error messages.
func (s *rest) applySet(w http.ResponseWriter, r *http.Request, _ call) error {
	opts, err := applyOptions(r)
	if err != nil {
		return err
	}
	source := r.URL.Query().Get("source")
	if len(source) > maxSourceBytes {
		return apistatus.New(apistatus.BadRequest, "source has %d bytes, allowed are %d", len(source), maxSourceBytes)
	}
	b, err := s.readBody(w, r, append([]string{typeApply}, documentTypes...)...)
	if err != nil {
		return err
	}
	defer b.release()
	docs, err := resource.DecodeDocuments(s.core.registry, source, b.data)
	if err != nil {
		return err
	}
	results, err := s.core.applySet(r.Context(), docs, opts)
	if err != nil {
		return err
	}
	items := make([]applyResult, len(results))
	for i, res := range results {
		items[i] = applyResult{Kind: res.Key.Kind, Namespace: res.Key.Namespace, Name: res.Key.Name, Result: res.Outcome}
		if res.Object == nil {
			continue
		}
		if items[i].Object, err = resource.EncodeJSON(res.Object); err != nil {
			return err
		}
	}
	answer, err := marshal(applyResultList{resource.APIVersion, "ApplyResultList", items})
	if err != nil {
		return err
	}
	writeJSON(w, r, http.StatusOK, answer)
	return nil
}

// maxSourceBytes bounds ?source=, a file name.
const maxSourceBytes = 1024
