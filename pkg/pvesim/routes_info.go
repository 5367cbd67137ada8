package pvesim

// infoHandlers are what nodes and the cluster tell about themselves, and high
// availability.
var infoHandlers = map[string]handler{
	"GET /nodes/{node}":                   nodeIndex,
	"GET /nodes/{node}/dns":               nodeDNS,
	"GET /nodes/{node}/services":          nodeServices,
	"GET /nodes/{node}/subscription":      nodeSubscription,
	"GET /nodes/{node}/syslog":            nodeSyslog,
	"GET /nodes/{node}/certificates/info": certificates,
	"POST /nodes/{node}/execute":          execute,

	"GET /cluster/options": clusterOptions,
	"GET /cluster/log":     clusterLog,
	"GET /cluster/backup":  noObjects,

	"GET /cluster/ha/status/current":     haStatus,
	"GET /cluster/ha/resources":          listHAResources,
	"POST /cluster/ha/resources":         createHAResource,
	"GET /cluster/ha/resources/{sid}":    getHAResource,
	"PUT /cluster/ha/resources/{sid}":    updateHAResource,
	"DELETE /cluster/ha/resources/{sid}": deleteHAResource,
	"GET /cluster/ha/rules":              listHARules,
	"POST /cluster/ha/rules":             createHARule,
	"GET /cluster/ha/rules/{rule}":       getHARule,
	"PUT /cluster/ha/rules/{rule}":       updateHARule,
	"DELETE /cluster/ha/rules/{rule}":    deleteHARule,
	"GET /cluster/ha/groups":             listHAGroups,
}
