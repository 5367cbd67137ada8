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
	"GET /nodes/{node}/lxc/{vmid}/rrddata":          guestRRD,
	"GET /nodes/{node}/lxc/{vmid}/status/current":   guestStatus,
	"POST /nodes/{node}/lxc/{vmid}/status/reboot":   rebootGuest,
	"POST /nodes/{node}/lxc/{vmid}/status/shutdown": shutdownGuest,
	"POST /nodes/{node}/lxc/{vmid}/status/start":    startGuest,
	"POST /nodes/{node}/lxc/{vmid}/status/stop":     stopGuest,

	"POST /nodes/{node}/lxc/{vmid}/status/suspend": suspendGuest,
	"POST /nodes/{node}/lxc/{vmid}/status/resume":  resumeGuest,

	"GET /nodes/{node}/lxc/{vmid}/feature":      guestFeature,
	"GET /nodes/{node}/lxc/{vmid}/migrate":      migratePreconditions,
	"POST /nodes/{node}/lxc/{vmid}/migrate":     migrateGuest,
	"POST /nodes/{node}/lxc/{vmid}/clone":       cloneGuest,
	"POST /nodes/{node}/lxc/{vmid}/template":    makeTemplate,
	"POST /nodes/{node}/lxc/{vmid}/move_volume": moveVolume,

	"POST /nodes/{node}/lxc/{vmid}/termproxy":   openTermproxy,
	"GET /nodes/{node}/lxc/{vmid}/vncwebsocket": consoleWebsocket,

	"GET /nodes/{node}/lxc/{vmid}/snapshot":                      listSnapshots,
	"POST /nodes/{node}/lxc/{vmid}/snapshot":                     createSnapshot,
	"GET /nodes/{node}/lxc/{vmid}/snapshot/{snapname}":           snapshotIndex,
	"DELETE /nodes/{node}/lxc/{vmid}/snapshot/{snapname}":        deleteSnapshot,
	"POST /nodes/{node}/lxc/{vmid}/snapshot/{snapname}/rollback": rollbackSnapshot,
	"GET /nodes/{node}/lxc/{vmid}/snapshot/{snapname}/config":    getSnapshotConfig,
	"PUT /nodes/{node}/lxc/{vmid}/snapshot/{snapname}/config":    putSnapshotConfig,

	"POST /nodes/{node}/vzdump":              createBackup,
	"GET /nodes/{node}/vzdump/defaults":      vzdumpDefaults,
	"GET /nodes/{node}/vzdump/extractconfig": extractConfig,
}
