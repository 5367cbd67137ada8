package server

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// applyCollection is the path segment of the set; no kind may have it as its plural.
const applyCollection = "apply"

func applyOptions(r *http.Request) (apply.Options, error) {
	opts, err := writeOptions(r)
	return opts, err
}

// patchTypes are the media types of a PATCH: each means something else.
var patchTypes = []string{typeApply, string(apply.MergePatch), string(apply.JSONPatch)}

// patch is PATCH of one object: an apply, or a patch of its JSON.
func (s *rest) patch(w http.ResponseWriter, r *http.Request, c call) error {
	opts, err := applyOptions(r)
	if err != nil {
		return err
	}
	if err := noIfMatch(r); err != nil {
		return err
	}
	supported := strings.Join(patchTypes, ", ")
	w.Header().Set("Accept-Patch", supported)
	b, err := s.readBody(w, r, patchTypes...)
	if err != nil {
		return err
	}
	defer b.release()
	if r.Header.Get("Content-Type") == "" {
		return apistatus.New(apistatus.UnsupportedMediaType, "a content type is needed, supported are: %s", supported)
	}
	typ, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // readBody has checked that of a body; an empty one fits no type
	if typ != typeApply {
		obj, err := s.core.patch(r.Context(), c.key(), apply.PatchType(typ), b.data, opts)
		return writeObject(w, r, http.StatusOK, obj, err)
	}
	return s.applyOne(w, r, c, b, opts)
}

// applyOne applies the document that a PATCH brought.
func (s *rest) applyOne(w http.ResponseWriter, r *http.Request, c call, b *body, opts apply.Options) error {
	doc, err := s.core.decodeOne("", b.data)
	if err != nil {
		return err
	}
	if err := matchPath(doc.Object, c); err != nil {
		return err
	}
	result, err := s.core.applyOne(r.Context(), doc, opts)
	code := http.StatusOK
	if result.Outcome == apply.Created {
		code = http.StatusCreated
	}
	return writeObject(w, r, code, result.Object, err)
}

// applyResult is one item of the answer to a set.
type applyResult struct {
	Kind      string          `json:"kind,omitempty"`
	Namespace string          `json:"namespace,omitempty"`
	Name      string          `json:"name,omitempty"`
	Result    string          `json:"result"`
	Object    json.RawMessage `json:"object,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
}

type applyResultList struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Items      []applyResult `json:"items"`
}

// applySet is POST of a set of documents: all of them or none, with ?perObject=1 each by
// itself. ?source= names the text in error messages.
func (s *rest) applySet(w http.ResponseWriter, r *http.Request, _ call) error {
	opts, err := applyOptions(r)
	if err != nil {
		return err
	}
	results, err := s.applyDocuments(w, r, opts)
	if err != nil {
		return err
	}
	errs := eachErrors{room: maxEachErrorBytes}
	items := make([]applyResult, len(results))
	for i, res := range results {
		items[i] = applyResult{Kind: res.Key.Kind, Namespace: res.Key.Namespace, Name: res.Key.Name, Result: res.Outcome}
		if res.Err != nil {
			items[i].Error = apistatus.JSON(errs.status(res))
		}
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

// applyDocuments applies the documents of the body.
func (s *rest) applyDocuments(w http.ResponseWriter, r *http.Request, opts apply.Options) ([]apply.Each, error) {
	if isTrue(r, "perObject") {
		return s.applyEach(w, r, opts)
	}
	docs, held, err := s.readDocuments(w, r)
	if err != nil {
		return nil, err
	}
	defer held.release()
	results, err := s.core.applySet(r.Context(), docs, opts)
	if err != nil {
		return nil, err
	}
	each := make([]apply.Each, len(results))
	for i, r := range results {
		each[i].Result = r
	}
	return each, nil
}

func (s *rest) applyEach(w http.ResponseWriter, r *http.Request, opts apply.Options) ([]apply.Each, error) {
	source, b, err := s.readSet(w, r)
	if err != nil {
		return nil, err
	}
	defer b.release()
	docs, wrong, total, err := resource.DecodeEach(s.core.registry, source, b.data)
	if err != nil {
		return nil, err
	}
	set := partSet{docs: docs, wrong: make(map[int]error, len(wrong)), total: total}
	for i, errs := range wrong {
		set.wrong[i] = errs
	}
	return s.core.applyEach(r.Context(), set, opts)
}

// readDocuments decodes the body as a set of documents; the body must be released when
// nothing refers to them any more.
func (s *rest) readDocuments(w http.ResponseWriter, r *http.Request) ([]resource.Document, *body, error) {
	source, b, err := s.readSet(w, r)
	if err != nil {
		return nil, nil, err
	}
	docs, err := resource.DecodeDocuments(s.core.registry, source, b.data)
	if err != nil {
		b.release()
		return nil, nil, err
	}
	return docs, b, nil
}

// readSet reads the body of a set and what it is to be called.
func (s *rest) readSet(w http.ResponseWriter, r *http.Request) (source string, b *body, err error) {
	source = r.URL.Query().Get("source")
	if len(source) > maxSourceBytes {
		return "", nil, apistatus.New(apistatus.BadRequest, "source has %d bytes, allowed are %d", len(source), maxSourceBytes)
	}
	b, err = s.readBody(w, r, append([]string{typeApply}, documentTypes...)...)
	return source, b, err
}

// maxSourceBytes bounds ?source=, a file name.
const maxSourceBytes = 1024
