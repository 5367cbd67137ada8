package pvesim

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// handler carries out one method.
type handler func(*call) (result, error)

// handlers is every method that the node serves. The schema of each is in
// pveschema/served.txt.
var handlers = map[string]handler{
	"GET /access/ticket":                            getTicket,
	"POST /access/ticket":                           createTicket,
	"GET /access/permissions":                       getPermissions,
	"GET /access/users":                             listUsers,
	"POST /access/users":                            createUser,
	"GET /access/roles":                             listRoles,
	"POST /access/roles":                            createRole,
	"GET /access/acl":                               listACL,
	"PUT /access/acl":                               updateACL,
	"POST /access/users/{userid}/token/{tokenid}":   createToken,
	"DELETE /access/users/{userid}/token/{tokenid}": deleteToken,

	"GET /version":                          getVersion,
	"GET /cluster/status":                   clusterStatus,
	"GET /cluster/resources":                clusterResources,
	"GET /cluster/nextid":                   nextID,
	"GET /nodes":                            listNodes,
	"GET /nodes/{node}/status":              nodeStatus,
	"GET /nodes/{node}/version":             getVersion,
	"GET /nodes/{node}/rrddata":             rrdData,
	"GET /nodes/{node}/aplinfo":             listAplinfo,
	"GET /nodes/{node}/tasks":               listTasks,
	"DELETE /nodes/{node}/tasks/{upid}":     stopTask,
	"GET /nodes/{node}/tasks/{upid}/status": taskStatus,
	"GET /nodes/{node}/tasks/{upid}/log":    taskLog,

	"GET /nodes/{node}/network":            listNetwork,
	"POST /nodes/{node}/network":           createInterface,
	"PUT /nodes/{node}/network":            reloadNetwork,
	"DELETE /nodes/{node}/network":         revertNetwork,
	"GET /nodes/{node}/network/{iface}":    getInterface,
	"PUT /nodes/{node}/network/{iface}":    updateInterface,
	"DELETE /nodes/{node}/network/{iface}": deleteInterface,

	"GET /nodes/{node}/storage":                               listStorage,
	"GET /nodes/{node}/storage/{storage}/status":              storageStatus,
	"GET /nodes/{node}/storage/{storage}/content":             storageContent,
	"DELETE /nodes/{node}/storage/{storage}/content/{volume}": deleteVolume,

	"GET /nodes/{node}/lxc":                         listGuests,
	"POST /nodes/{node}/lxc":                        createGuest,
	"GET /nodes/{node}/lxc/{vmid}":                  guestIndex,
	"DELETE /nodes/{node}/lxc/{vmid}":               destroyGuest,
	"GET /nodes/{node}/lxc/{vmid}/config":           getConfig,
	"PUT /nodes/{node}/lxc/{vmid}/config":           putConfig,
	"GET /nodes/{node}/lxc/{vmid}/pending":          getPending,
	"GET /nodes/{node}/lxc/{vmid}/interfaces":       guestInterfaces,
	"PUT /nodes/{node}/lxc/{vmid}/resize":           resizeGuest,
	"GET /nodes/{node}/lxc/{vmid}/rrddata":          rrdData,
	"GET /nodes/{node}/lxc/{vmid}/status/current":   guestStatus,
	"POST /nodes/{node}/lxc/{vmid}/status/start":    startGuest,
	"POST /nodes/{node}/lxc/{vmid}/status/stop":     stopGuest,
	"POST /nodes/{node}/lxc/{vmid}/status/shutdown": shutdownGuest,
	"POST /nodes/{node}/lxc/{vmid}/status/reboot":   rebootGuest,
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

// buildRoutes makes the tree; a handler without schema, or the reverse, is an error.
func buildRoutes(schema map[string]*pveschema.Method) (*routeNode, error) {
	root := newRouteNode()
	for key, h := range handlers {
		m, ok := schema[key]
		if !ok {
			return nil, fmt.Errorf("%s has a handler but no schema", key)
		}
		root.add(m, h)
	}
	for key := range schema {
		if _, ok := handlers[key]; !ok {
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
