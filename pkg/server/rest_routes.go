package server

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/server/openapi"
)

// handler answers a request or returns the error to answer with.
type handler func(w http.ResponseWriter, r *http.Request, call call) error

// call is what a route found out about a request.
type call struct {
	kind   *resource.Kind // nil outside the kinds' paths
	target target
}

func (c call) key() resource.Key {
	return resource.Key{Kind: c.kind.Name, Namespace: c.target.namespace, Name: c.target.name}
}

// route is a path, or a shape of paths, with its methods.
type route struct {
	// pattern is the route's name in logs and metrics.
	pattern string
	methods map[string]handler
	// long tells whether a request is a watch or a wait, and how long it may take (0: no bound).
	long func(r *http.Request) (bool, time.Duration)
}

// allowed returns the methods in a fixed order, for the Allow header.
func (rt *route) allowed() []string {
	var names []string
	for m := range rt.methods {
		names = append(names, m)
	}
	slices.Sort(names)
	return names
}

func never(*http.Request) (bool, time.Duration) { return false, RequestTimeout }

// watches is the long of collections and objects.
func watches(r *http.Request) (bool, time.Duration) {
	if wantsWatch(r) {
		return true, 0
	}
	return false, RequestTimeout
}

// waits is the long of the system routes: an Operation may be waited for.
func waits(*http.Request) (bool, time.Duration) { return true, MaxWait + RequestTimeout }

// maintains is the long of what may take as long as the database is large.
func maintains(*http.Request) (bool, time.Duration) { return true, MaintainTimeout }

// fixedRoutes are the routes without a variable part, by path.
func (s *rest) fixedRoutes() map[string]*route {
	only := func(method string, h handler) map[string]handler { return map[string]handler{method: h} }
	routes := map[string]*route{
		"/healthz":                      {methods: only(http.MethodGet, s.healthz)},
		"/readyz":                       {methods: only(http.MethodGet, s.readyz)},
		"/metrics":                      {methods: only(http.MethodGet, s.metricsPage)},
		"/version":                      {methods: only(http.MethodGet, s.versionPage)},
		"/api/openapi.json":             {methods: only(http.MethodGet, s.openAPI)},
		"/api":                          {methods: only(http.MethodGet, s.coreVersions)},
		WebhookPath:                     {methods: only(http.MethodPost, s.webhook)},
		"/openapi/v3":                   {methods: only(http.MethodGet, s.openAPIIndex)},
		"/openapi/v3" + apiRoot:         {methods: only(http.MethodGet, s.openAPI)},
		"/apis":                         {methods: only(http.MethodGet, s.groupList)},
		"/apis/" + resource.Group:       {methods: only(http.MethodGet, s.group)},
		apiRoot:                         {methods: only(http.MethodGet, s.resourceList)},
		apiRoot + "/" + applyCollection: {methods: only(http.MethodPost, s.applySet)},
		apiRoot + "/" + planCollection:  {methods: only(http.MethodPost, s.planSet)},
		apiRoot + "/" + usageCollection: {methods: only(http.MethodGet, s.usageSet)},
		openapi.RekeyPath:               {methods: only(http.MethodPost, s.rekey), long: maintains},
	}
	for _, r := range openapi.SystemRoutes {
		routes[r.Path] = &route{methods: only(r.Method, s.systemRoute(r)), long: never}
		if r.Operation() {
			routes[r.Path].long = waits
		}
	}
	for _, r := range openapi.AuthRoutes {
		routes[r.Path] = &route{methods: only(r.Method, s.authRoute(r))}
	}
	for path, r := range routes {
		r.pattern = path
		if r.long == nil {
			r.long = never
		}
	}
	return routes
}

// kindRoutes are the shapes of paths under a kind.
type kindRoutes struct {
	collection, everywhere, object, status, plan, usage, values *route
}

func (s *rest) newKindRoutes() kindRoutes {
	return kindRoutes{
		// A cluster-scoped kind, or a namespaced one inside a namespace.
		collection: &route{apiRoot + "/{plural}", map[string]handler{
			http.MethodGet: s.listOrWatch, http.MethodPost: s.create,
		}, watches},
		// A namespaced kind in all namespaces.
		everywhere: &route{apiRoot + "/{plural} (all namespaces)", map[string]handler{
			http.MethodGet: s.listOrWatch,
		}, watches},
		object: &route{apiRoot + "/{plural}/{name}", map[string]handler{
			http.MethodGet: s.getOrWatch, http.MethodPut: s.update, http.MethodPatch: s.patch, http.MethodDelete: s.delete,
		}, watches},
		status: &route{apiRoot + "/{plural}/{name}/status", map[string]handler{
			http.MethodGet: s.get, http.MethodPut: s.updateStatus,
		}, never},
		plan:  &route{apiRoot + "/{plural}/{name}/plan", map[string]handler{http.MethodGet: s.planObject}, never},
		usage: &route{apiRoot + "/{plural}/{name}/usage", map[string]handler{http.MethodGet: s.usageObject}, never},
		// No GET: reading values leaves something behind, an entry in the audit trail.
		values: &route{apiRoot + "/{plural}/{name}/values", map[string]handler{http.MethodPost: s.readSecret}, never},
	}
}

// resolve finds the route of a path. An escaped path is not resolved: no name needs one.
func (s *rest) resolve(r *http.Request) (*route, call, error) {
	notFound := apistatus.New(apistatus.NotFound, "there is no such path")
	if r.URL.RawPath != "" || len(r.URL.Path) > 2048 {
		return nil, call{}, notFound
	}
	if rt := s.fixed[r.URL.Path]; rt != nil {
		return rt, call{}, nil
	}
	t, ok := parsePath(r.URL.Path)
	if !ok {
		return nil, call{}, notFound
	}
	kind, ok := s.core.registry.ByPlural(t.plural)
	if !ok {
		return nil, call{}, apistatus.New(apistatus.NotFound, "there is no resource %q; there are: %s",
			t.plural, strings.Join(s.core.registry.Plurals(), ", "))
	}
	rt := s.kinds.shape(kind, t)
	if rt == nil {
		return nil, call{}, notFound
	}
	return rt, call{kind, t}, nil
}

// shape returns the route of a target, nil when the kind has no such path.
func (k kindRoutes) shape(kind *resource.Kind, t target) *route {
	scoped := kind.Namespaced == (t.namespace != "")
	switch {
	case t.name == "" && scoped:
		return k.collection
	case t.name == "" && kind.Namespaced:
		return k.everywhere
	case !scoped:
		return nil
	case t.subresource == "":
		return k.object
	case t.subresource == subresourceStatus && kind.Descriptor().Fields().ByJSONName("status") != nil:
		return k.status
	case t.subresource == subresourcePlan && !kind.System:
		return k.plan
	case t.subresource == subresourceUsage && usageOf[kind.Name] != "":
		return k.usage
	case t.subresource == subresourceValues && kind.Name == kindSecret:
		return k.values
	}
	return nil
}
