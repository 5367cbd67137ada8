package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
)

// isTrue tells whether a query parameter is set, as Kubernetes writes it.
func isTrue(r *http.Request, name string) bool {
	v := r.URL.Query().Get(name)
	return v == "1" || v == "true"
}

func wantsWatch(r *http.Request) bool { return r.Method == http.MethodGet && isTrue(r, "watch") }

// writeOptions reads ?dryRun=All, ?fieldManager= and ?force=1.
func writeOptions(r *http.Request) (apply.Options, error) {
	dry, err := isDryRun(r.URL.Query()["dryRun"])
	return apply.Options{Manager: r.URL.Query().Get("fieldManager"), DryRun: dry, Force: isTrue(r, "force")}, err
}

// isDryRun tells whether the values of dryRun ask for one. Taking a wish that nobody
// understands for none would change things.
func isDryRun(values []string) (bool, error) {
	switch {
	case len(values) == 0:
		return false, nil
	case len(values) == 1 && values[0] == "All":
		return true, nil
	}
	return false, apistatus.New(apistatus.BadRequest, "dryRun: allowed is All")
}

// selectionOf reads a collection's namespace and selectors.
func selectionOf(r *http.Request, c call) (selection, error) {
	query := r.URL.Query()
	sel := selection{namespace: c.target.namespace, name: c.target.name}
	var err error
	if sel.labels, err = selectLabels(query.Get("labelSelector")); err != nil {
		return sel, err
	}
	return sel, sel.selectFields(c.kind, query.Get("fieldSelector"))
}

// pageOf reads ?limit= and ?continue=.
func pageOf(r *http.Request) (pageRequest, error) {
	query := r.URL.Query()
	at := pageRequest{token: query.Get("continue")}
	text := query.Get("limit")
	if text == "" {
		return at, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return at, apistatus.New(apistatus.BadRequest, "limit %.20q: allowed is a positive number, or 0 for all", text)
	}
	at.limit = int(n)
	return at, nil
}

func (s *rest) listOrWatch(w http.ResponseWriter, r *http.Request, c call) error {
	if wantsWatch(r) {
		return s.watch(w, r, c)
	}
	return s.list(w, r, c)
}

func (s *rest) getOrWatch(w http.ResponseWriter, r *http.Request, c call) error {
	if wantsWatch(r) {
		return s.watch(w, r, c)
	}
	return s.get(w, r, c)
}

func (s *rest) get(w http.ResponseWriter, r *http.Request, c call) error {
	obj, err := s.core.get(r.Context(), c.key())
	return writeObject(w, r, http.StatusOK, obj, err)
}

func (s *rest) list(w http.ResponseWriter, r *http.Request, c call) error {
	sel, err := selectionOf(r, c)
	if err != nil {
		return err
	}
	at, err := pageOf(r)
	if err != nil {
		return err
	}
	at.encoded = true
	snapshot, err := s.core.listPage(r.Context(), c.kind.Name, sel, at)
	if err != nil {
		return err
	}
	body := fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":%q`,
		resource.APIVersion, c.kind.Name+"List", strconv.FormatUint(snapshot.Revision, 10))
	if snapshot.Continue != "" {
		body = fmt.Appendf(body, `,"continue":%q,"remainingItemCount":%d`, snapshot.Continue, snapshot.Remaining)
	}
	body = append(body, `},"items":[`...)
	if body, err = appendItems(body, c.kind, snapshot); err != nil {
		return err
	}
	writeJSON(w, r, http.StatusOK, append(body, `]}`...))
	return nil
}

// readObject decodes the body as an object of the path's kind. What the path names, the
// body may leave out; it must not say otherwise.
func (s *rest) readObject(w http.ResponseWriter, r *http.Request, c call) (resource.Object, error) {
	b, err := s.readBody(w, r, documentTypes...)
	if err != nil {
		return nil, err
	}
	defer b.release()
	obj, err := resource.DecodeJSON(s.core.registry, b.data)
	if err != nil {
		return nil, err
	}
	return obj, matchPath(obj, c)
}

// matchPath fills in the namespace and name of the path and refuses others.
func matchPath(obj resource.Object, c call) error {
	var errs resource.FieldErrors
	meta := obj.GetMetadata()
	if obj.GetKind() != c.kind.Name {
		errs = append(errs, resource.Invalid("kind", obj.GetKind(), c.kind.Name+", the kind of the path"))
	}
	if meta.Namespace == "" {
		meta.Namespace = c.target.namespace
	}
	if meta.Namespace != c.target.namespace {
		allowed := fmt.Sprintf("%q, the namespace of the path", c.target.namespace)
		if !c.kind.Namespaced {
			allowed = "no namespace: the kind is cluster-scoped"
		}
		errs = append(errs, resource.Invalid("metadata.namespace", meta.Namespace, allowed))
	}
	if c.target.name != "" {
		if meta.Name == "" {
			meta.Name = c.target.name
		}
		if meta.Name != c.target.name {
			errs = append(errs, resource.Invalid("metadata.name", meta.Name, fmt.Sprintf("%q, the name of the path", c.target.name)))
		}
	}
	return errs.OrNil()
}

func (s *rest) create(w http.ResponseWriter, r *http.Request, c call) error {
	opts, err := writeOptions(r)
	if err != nil {
		return err
	}
	obj, err := s.readObject(w, r, c)
	if err != nil {
		return err
	}
	created, err := s.core.create(r.Context(), obj, opts)
	return writeObject(w, r, http.StatusCreated, created, err)
}

func (s *rest) update(w http.ResponseWriter, r *http.Request, c call) error {
	opts, err := writeOptions(r)
	if err != nil {
		return err
	}
	obj, err := s.readObject(w, r, c)
	if err != nil {
		return err
	}
	version, fail, err := matched(r, obj.GetMetadata().GetResourceVersion())
	if err != nil {
		return err
	}
	obj.GetMetadata().ResourceVersion = version
	updated, err := s.core.update(r.Context(), obj, opts)
	return writeObject(w, r, http.StatusOK, updated, fail(err))
}

func (s *rest) updateStatus(w http.ResponseWriter, r *http.Request, c call) error {
	opts, err := writeOptions(r)
	if err != nil {
		return err
	}
	obj, err := s.readObject(w, r, c)
	if err != nil {
		return err
	}
	version, fail, err := matched(r, obj.GetMetadata().GetResourceVersion())
	if err != nil {
		return err
	}
	obj.GetMetadata().ResourceVersion = version
	updated, err := s.core.updateStatus(r.Context(), obj, opts)
	return writeObject(w, r, http.StatusOK, updated, fail(err))
}

// deleteOptions is what of Kubernetes' DeleteOptions has a meaning here.
type deleteOptions struct {
	APIVersion         string   `json:"apiVersion"`
	Kind               string   `json:"kind"`
	GracePeriodSeconds *int64   `json:"gracePeriodSeconds"` // guests are shut down by their controllers
	PropagationPolicy  string   `json:"propagationPolicy"`
	DryRun             []string `json:"dryRun"`
	Preconditions      struct {
		UID             string `json:"uid"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"preconditions"`
}

func (s *rest) delete(w http.ResponseWriter, r *http.Request, c call) error {
	opts, err := writeOptions(r)
	if err != nil {
		return err
	}
	pre, dry, err := s.preconditions(w, r)
	if err != nil {
		return err
	}
	opts.DryRun = opts.DryRun || dry
	var fail func(error) error
	if pre.ResourceVersion, fail, err = matched(r, pre.ResourceVersion); err != nil {
		return err
	}
	last, err := s.core.delete(r.Context(), c.key(), pre, opts)
	return writeObject(w, r, http.StatusOK, last, fail(err))
}

// preconditions reads them from the query and from a DeleteOptions body, where both count,
// and whether the body wants a dry run.
func (s *rest) preconditions(w http.ResponseWriter, r *http.Request) (pre store.Preconditions, dry bool, err error) {
	query := r.URL.Query()
	pre = store.Preconditions{UID: query.Get("uid"), ResourceVersion: query.Get("resourceVersion")}
	b, err := s.readBody(w, r, typeJSON)
	if err != nil {
		return pre, false, err
	}
	defer b.release()
	if len(b.data) == 0 {
		return pre, false, nil
	}
	var opts deleteOptions
	dec := json.NewDecoder(bytes.NewReader(b.data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&opts); err != nil || dec.More() {
		return pre, false, resource.FieldErrors{{Reason: resource.ReasonSyntax, Allowed: "the body must be one DeleteOptions object"}}
	}
	if dry, err = isDryRun(opts.DryRun); err != nil {
		return pre, false, err
	}
	if p := opts.PropagationPolicy; p != "" && p != "Background" {
		return pre, false, resource.FieldErrors{resource.NotSupported("propagationPolicy", p, []string{"Background"})}
	}
	err = errors.Join(
		merge(&pre.UID, opts.Preconditions.UID, "uid"),
		merge(&pre.ResourceVersion, opts.Preconditions.ResourceVersion, "resourceVersion"))
	return pre, dry, err
}

// merge sets a precondition that two places may name.
func merge(dst *string, value, name string) error {
	if *dst != "" && value != "" && *dst != value {
		return apistatus.New(apistatus.BadRequest, "the preconditions of query and body name different values of %s", name)
	}
	if value != "" {
		*dst = value
	}
	return nil
}

// allow is authorize for routes that read nothing from the core.
func allow(r *http.Request, subject string) error {
	return authorize(r.Context(), auth.VerbGet, subject, "")
}
