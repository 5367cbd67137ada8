package pvesim

// networkHandlers are the methods of a node's network files.
var networkHandlers = map[string]handler{
	"DELETE /nodes/{node}/network":         revertNetwork,
	"GET /nodes/{node}/network":            listNetwork,
	"POST /nodes/{node}/network":           createInterface,
	"PUT /nodes/{node}/network":            reloadNetwork,
	"DELETE /nodes/{node}/network/{iface}": deleteInterface,
	"GET /nodes/{node}/network/{iface}":    getInterface,
	"PUT /nodes/{node}/network/{iface}":    updateInterface,
}
