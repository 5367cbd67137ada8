package pvesim

// sdnHandlers are the methods of the software-defined network.
var sdnHandlers = map[string]handler{
	"GET /cluster/sdn":           sdnIndex,
	"PUT /cluster/sdn":           applySDN,
	"POST /cluster/sdn/lock":     lockSDN,
	"DELETE /cluster/sdn/lock":   unlockSDN,
	"POST /cluster/sdn/rollback": rollbackSDN,

	"GET /cluster/sdn/zones":           listZones,
	"POST /cluster/sdn/zones":          createZone,
	"GET /cluster/sdn/zones/{zone}":    getZone,
	"PUT /cluster/sdn/zones/{zone}":    updateZone,
	"DELETE /cluster/sdn/zones/{zone}": deleteZone,

	"GET /cluster/sdn/vnets":           listVNets,
	"POST /cluster/sdn/vnets":          createVNet,
	"GET /cluster/sdn/vnets/{vnet}":    getVNet,
	"PUT /cluster/sdn/vnets/{vnet}":    updateVNet,
	"DELETE /cluster/sdn/vnets/{vnet}": deleteVNet,

	"GET /cluster/sdn/vnets/{vnet}/subnets":             listSubnets,
	"POST /cluster/sdn/vnets/{vnet}/subnets":            createSubnet,
	"GET /cluster/sdn/vnets/{vnet}/subnets/{subnet}":    getSubnet,
	"PUT /cluster/sdn/vnets/{vnet}/subnets/{subnet}":    updateSubnet,
	"DELETE /cluster/sdn/vnets/{vnet}/subnets/{subnet}": deleteSubnet,

	"POST /cluster/sdn/vnets/{vnet}/ips":   changeIP(false, false),
	"PUT /cluster/sdn/vnets/{vnet}/ips":    changeIP(false, true),
	"DELETE /cluster/sdn/vnets/{vnet}/ips": changeIP(true, false),

	"GET /cluster/sdn/ipams":               listIPAMs,
	"GET /cluster/sdn/ipams/{ipam}/status": ipamStatus,
	"GET /cluster/sdn/controllers":         noObjects,
	"GET /cluster/sdn/dns":                 noObjects,

	"GET /nodes/{node}/sdn/zones":                nodeZones,
	"GET /nodes/{node}/sdn/zones/{zone}":         zoneIndex,
	"GET /nodes/{node}/sdn/zones/{zone}/content": zoneContent,
}
