package pvesim

// clusterHandlers are the methods of the whole cluster.
var clusterHandlers = map[string]handler{
	"GET /cluster/nextid":    nextID,
	"GET /cluster/resources": clusterResources,
	"GET /cluster/tasks":     clusterTasks,
	"GET /cluster/status":    clusterStatus,
	"GET /nodes":             listNodes,
	"GET /version":           getVersion,
}
