package pvesim

// nodeHandlers are the methods of a node and its tasks.
var nodeHandlers = map[string]handler{
	"POST /nodes/{node}/startall": startAll,
	"POST /nodes/{node}/stopall":  stopAll,

	"GET /nodes/{node}/disks/lvmthin":       thinPools,
	"GET /nodes/{node}/rrddata":             nodeRRD,
	"GET /nodes/{node}/status":              nodeStatus,
	"GET /nodes/{node}/tasks":               listTasks,
	"DELETE /nodes/{node}/tasks/{upid}":     stopTask,
	"GET /nodes/{node}/tasks/{upid}/log":    taskLog,
	"GET /nodes/{node}/tasks/{upid}/status": taskStatus,
	"GET /nodes/{node}/time":                nodeTime,
	"GET /nodes/{node}/apt/versions":        packageVersions,
	"GET /nodes/{node}/version":             getVersion,
}
