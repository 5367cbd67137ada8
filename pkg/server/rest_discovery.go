package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"

	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// marshal is json.Marshal without HTML escapes, which would make objects inside differ
// from their canonical form.
func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}

// page answers with a value that depends on nothing but the program.
func page(w http.ResponseWriter, r *http.Request, v any) error {
	if err := allow(r, auth.Discovery); err != nil {
		return err
	}
	body, err := marshal(v)
	if err != nil {
		return err
	}
	writeJSON(w, r, http.StatusOK, body)
	return nil
}

// groupVersion and the types below are Kubernetes' discovery shapes.
type groupVersion struct {
	GroupVersion string `json:"groupVersion"`
	Version      string `json:"version"`
}

type apiGroup struct {
	Kind             string         `json:"kind,omitempty"`
	APIVersion       string         `json:"apiVersion,omitempty"`
	Name             string         `json:"name"`
	Versions         []groupVersion `json:"versions"`
	PreferredVersion groupVersion   `json:"preferredVersion"`
}

type apiResource struct {
	Name         string   `json:"name"`
	SingularName string   `json:"singularName"`
	Namespaced   bool     `json:"namespaced"`
	Kind         string   `json:"kind"`
	Verbs        []string `json:"verbs"`
	ShortNames   []string `json:"shortNames,omitempty"`
	Categories   []string `json:"categories,omitempty"`
}

func ourGroup() apiGroup {
	v := groupVersion{GroupVersion: resource.APIVersion, Version: resource.Version}
	return apiGroup{Name: resource.Group, Versions: []groupVersion{v}, PreferredVersion: v}
}

// coreVersions says that there is nothing of Kubernetes' own, unnamed group: kubectl asks.
func (s *rest) coreVersions(w http.ResponseWriter, r *http.Request, _ call) error {
	return page(w, r, map[string]any{"kind": "APIVersions", "apiVersion": "v1", "versions": []string{}})
}

// openAPIIndex is where kubectl finds the document of a group. The hash makes it ask again
// when the document is another one.
func (s *rest) openAPIIndex(w http.ResponseWriter, r *http.Request, _ call) error {
	document, err := s.openapi()
	if err != nil {
		return err
	}
	url := fmt.Sprintf("/openapi/v3%s?hash=%x", apiRoot, sha256.Sum256(document))
	return page(w, r, map[string]any{"paths": map[string]any{strings.TrimPrefix(apiRoot, "/"): map[string]string{"serverRelativeURL": url}}})
}

func (s *rest) groupList(w http.ResponseWriter, r *http.Request, _ call) error {
	return page(w, r, map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": []apiGroup{ourGroup()}})
}

func (s *rest) group(w http.ResponseWriter, r *http.Request, _ call) error {
	g := ourGroup()
	g.Kind, g.APIVersion = "APIGroup", "v1"
	return page(w, r, g)
}

func (s *rest) resourceList(w http.ResponseWriter, r *http.Request, _ call) error {
	var list []apiResource
	for _, k := range s.core.registry.Kinds() {
		res := apiResource{
			Name: k.Plural, SingularName: strings.ToLower(k.Name), Namespaced: k.Namespaced, Kind: k.Name,
			Verbs: []string{"create", "delete", "get", "list", "patch", "update", "watch"}, ShortNames: k.ShortNames, Categories: k.Categories,
		}
		if k.System {
			res.Verbs = []string{"delete", "get", "list", "watch"}
		}
		list = append(list, res)
		if k.Descriptor().Fields().ByJSONName(subresourceStatus) != nil {
			list = append(list, apiResource{Name: k.Plural + "/" + subresourceStatus, Namespaced: k.Namespaced, Kind: k.Name,
				Verbs: []string{"get", "update"}})
		}
	}
	return page(w, r, map[string]any{
		"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": resource.APIVersion, "resources": list,
	})
}

func (s *rest) versionPage(w http.ResponseWriter, r *http.Request, _ call) error {
	return page(w, r, map[string]string{
		"major": "0", "minor": "0", "gitVersion": s.version, "goVersion": runtime.Version(),
		"platform": runtime.GOOS + "/" + runtime.GOARCH,
	})
}

func (s *rest) openAPI(w http.ResponseWriter, r *http.Request, _ call) error {
	if err := allow(r, auth.Discovery); err != nil {
		return err
	}
	document, err := s.openapi()
	if err != nil {
		return err
	}
	writeJSON(w, r, http.StatusOK, document)
	return nil
}

func (s *rest) metricsPage(w http.ResponseWriter, r *http.Request, _ call) error {
	if err := allow(r, auth.Metrics); err != nil {
		return err
	}
	s.scrape.ServeHTTP(w, r)
	return nil
}

func (s *rest) healthz(w http.ResponseWriter, _ *http.Request, _ call) error { return plain(w, "ok\n") }

// readyz shows the reason to everybody: Config.Ready says that it must be harmless.
func (s *rest) readyz(w http.ResponseWriter, _ *http.Request, _ call) error {
	if err := s.ready(); err != nil {
		return apistatus.New(apistatus.ServiceUnavailable, "not ready: %v", err)
	}
	return plain(w, "ok\n")
}

func plain(w http.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.Write([]byte(text))
	return err
}
