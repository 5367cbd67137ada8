package pvesim

import (
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// handler carries out one method.
type handler func(*call) (result, error)

// areas are the methods that the node serves, by the area of the API. The schema of
// each is in pveschema/served/<area>.txt.
var areas = []map[string]handler{
	accessHandlers, accountHandlers, firewallHandlers, storageConfHandlers, sdnHandlers, infoHandlers, uploadHandlers, clusterHandlers, lxcHandlers, networkHandlers, nodeHandlers, storageHandlers,
}

// route is one served method.
type route struct {
	path    string // template
	schema  *pveschema.Method
	handler handler
}

// routeNode is one element of the paths.
type routeNode struct {
	fixed   map[string]*routeNode
	param   *routeNode
	name    string // of the parameter that leads here
	methods map[string]*route
}

func newRouteNode() *routeNode {
	return &routeNode{fixed: map[string]*routeNode{}, methods: map[string]*route{}}
}

// servedRoutes are the routes of every node: they hold no state.
var servedRoutes = sync.OnceValues(func() (*routeNode, error) {
	schema, err := pveschema.Load()
	if err != nil {
		return nil, err
	}
	return buildRoutes(schema)
})

// buildRoutes makes the tree; a handler without schema, or the reverse, is an error.
func buildRoutes(schema map[string]*pveschema.Method) (*routeNode, error) {
	root := newRouteNode()
	served := map[string]bool{}
	for _, area := range areas {
		for key, h := range area {
			m, ok := schema[key]
			if !ok {
				return nil, fmt.Errorf("%s has a handler but no schema", key)
			}
			if served[key] {
				return nil, fmt.Errorf("%s has two handlers", key)
			}
			served[key] = true
			root.add(m, h)
		}
	}
	for key := range schema {
		if !served[key] {
			return nil, fmt.Errorf("%s has a schema but no handler", key)
		}
	}
	return root, nil
}

func (t *routeNode) add(m *pveschema.Method, h handler) {
	for _, part := range strings.Split(strings.Trim(m.Path, "/"), "/") {
		if strings.HasPrefix(part, "{") {
			if t.param == nil {
				t.param = newRouteNode()
				t.param.name = strings.Trim(part, "{}")
			}
			t = t.param
			continue
		}
		next := t.fixed[part]
		if next == nil {
			next = newRouteNode()
			t.fixed[part] = next
		}
		t = next
	}
	t.methods[m.Method] = &route{path: m.Path, schema: m, handler: h}
}

// find returns the route of an escaped path and what its parameters are. {volume}
// takes all that is left, because volume ids contain slashes.
func (t *routeNode) find(method, escaped string) (*route, map[string]string) {
	captured := map[string]string{}
	parts := strings.FieldsFunc(escaped, func(r rune) bool { return r == '/' })
	for i, part := range parts {
		text, err := url.PathUnescape(part)
		if err != nil {
			return nil, nil
		}
		if next := t.fixed[text]; next != nil {
			t = next
			continue
		}
		if t = t.param; t == nil {
			return nil, nil
		}
		if t.name == "volume" {
			if text, err = url.PathUnescape(strings.Join(parts[i:], "/")); err != nil {
				return nil, nil
			}
			captured[t.name] = text
			break
		}
		captured[t.name] = text
	}
	r := t.methods[method]
	return r, captured
}
