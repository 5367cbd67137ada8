package pvesim

// lxcHandlers are the methods of containers.
var lxcHandlers = map[string]handler{
	"GET /nodes/{node}/lxc":                         listGuests,
	"POST /nodes/{node}/lxc":                        createGuest,
	"DELETE /nodes/{node}/lxc/{vmid}":               destroyGuest,
	"GET /nodes/{node}/lxc/{vmid}":                  guestIndex,
	"GET /nodes/{node}/lxc/{vmid}/config":           getConfig,
	"PUT /nodes/{node}/lxc/{vmid}/config":           putConfig,
	"GET /nodes/{node}/lxc/{vmid}/interfaces":       guestInterfaces,
	"GET /nodes/{node}/lxc/{vmid}/pending":          getPending,
	"PUT /nodes/{node}/lxc/{vmid}/resize":           resizeGuest,
	"GET /nodes/{node}/lxc/{vmid}/rrddata":          rrdData,
	"GET /nodes/{node}/lxc/{vmid}/status/current":   guestStatus,
	"POST /nodes/{node}/lxc/{vmid}/status/reboot":   rebootGuest,
	"POST /nodes/{node}/lxc/{vmid}/status/shutdown": shutdownGuest,
	"POST /nodes/{node}/lxc/{vmid}/status/start":    startGuest,
	"POST /nodes/{node}/lxc/{vmid}/status/stop":     stopGuest,
}
