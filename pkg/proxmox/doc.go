// Package proxmox is a client of the Proxmox VE API, made for a reconciler: every
// answer, also a strange one, becomes either a typed value or an error that says
// what is known about the request's effect.
//
// # Contract
//
//   - No write is ever sent twice by the client itself. A request is repeated only
//     when it surely had no effect: the connection could not be made, the proxy
//     answered 595, the server refused the credentials before looking at the
//     request (401), or it is a GET on a kept-alive connection that was closed.
//   - An error tells one of three things apart: nothing happened
//     ([IsUnavailable]), the server refused ([APIError] and the classifiers), or
//     nobody knows ([IsUnknownOutcome]). After the last, observe; do not replay.
//   - Proxmox VE reports most failures as HTTP 500 with a sentence. The classifiers
//     ([IsNotExist], [IsLocked], ...) are the only place where such sentences are
//     matched; each cites where the sentence comes from.
//   - Long operations return a [UPID]. Persist it, then [Client.WaitTask]. A task
//     that ends with warnings succeeded.
//   - Everything is bounded: concurrent requests (per client, per node, and writes
//     per node), tasks that allocate on one storage, the size of an answer, the time
//     of a request, retries.
//   - What differs between Proxmox VE 7.4, 8.x and 9.x is asked of [Capabilities], by
//     what a node can do, and nowhere by comparing versions.
//   - Numbers, booleans and strings are decoded leniently ([Int], [Bool], [Float],
//     [Text]): the API sends 1, "1" and true for the same thing.
//   - Property strings ([PropertyString], [NIC], [Volume]) keep keys they do not
//     know, and are compared parsed: the server re-orders them.
//   - Secrets appear in no error, log line or observation.
//
// Controllers do not use [Client] but the small interfaces of roles.go that they
// need.
//
// # Endpoints
//
// Every request is one of these; the role that has it is named first.
//
//	ClusterReader       GET    /version
//	                    GET    /access/permissions
//	                    GET    /cluster/status
//	                    GET    /cluster/resources
//	                    GET    /cluster/nextid
//	                    GET    /nodes
//	                    GET    /nodes/{node}/status
//	GuestReader         GET    /nodes/{node}/lxc
//	                    GET    /nodes/{node}/lxc/{vmid}/config
//	                    GET    /nodes/{node}/lxc/{vmid}/pending
//	                    GET    /nodes/{node}/lxc/{vmid}/status/current
//	                    GET    /nodes/{node}/lxc/{vmid}/interfaces
//	GuestWriter         POST   /nodes/{node}/lxc
//	                    PUT    /nodes/{node}/lxc/{vmid}/config
//	                    PUT    /nodes/{node}/lxc/{vmid}/resize
//	                    DELETE /nodes/{node}/lxc/{vmid}
//	PowerController     POST   /nodes/{node}/lxc/{vmid}/status/start
//	                    POST   /nodes/{node}/lxc/{vmid}/status/stop
//	                    POST   /nodes/{node}/lxc/{vmid}/status/shutdown
//	                    POST   /nodes/{node}/lxc/{vmid}/status/reboot
//	GuestMover          POST   /nodes/{node}/lxc/{vmid}/clone
//	                    POST   /nodes/{node}/lxc/{vmid}/migrate
//	                    POST   /nodes/{node}/lxc/{vmid}/template
//	                    POST   /nodes/{node}/lxc/{vmid}/move_volume
//	                    GET    /nodes/{node}/lxc/{vmid}/feature
//	Snapshotter         GET    /nodes/{node}/lxc/{vmid}/snapshot
//	                    POST   /nodes/{node}/lxc/{vmid}/snapshot
//	                    POST   /nodes/{node}/lxc/{vmid}/snapshot/{snapname}/rollback
//	                    DELETE /nodes/{node}/lxc/{vmid}/snapshot/{snapname}
//	BackupAdmin         POST   /nodes/{node}/vzdump
//	                    GET    /nodes/{node}/vzdump/extractconfig
//	                    PUT    /nodes/{node}/storage/{storage}/content/{volume}
//	                    DELETE /nodes/{node}/storage/{storage}/content/{volume}
//	StorageReader       GET    /nodes/{node}/storage
//	                    GET    /nodes/{node}/storage/{storage}/content
//	                    GET    /nodes/{node}/aplinfo
//	TemplateDownloader  POST   /nodes/{node}/aplinfo
//	ImageFetcher        POST   /nodes/{node}/storage/{storage}/download-url
//	                    GET    /nodes/{node}/query-oci-repo-tags
//	                    POST   /nodes/{node}/storage/{storage}/oci-registry-pull
//	NetworkAdmin        GET    /nodes/{node}/network
//	                    POST   /nodes/{node}/network
//	                    PUT    /nodes/{node}/network
//	                    DELETE /nodes/{node}/network
//	                    PUT    /nodes/{node}/network/{iface}
//	                    DELETE /nodes/{node}/network/{iface}
//	SDNReader           GET    /cluster/sdn/zones
//	                    GET    /cluster/sdn/vnets
//	                    GET    /cluster/sdn/vnets/{vnet}/subnets
//	                    GET    /cluster/sdn/zones/{zone}
//	                    GET    /cluster/sdn/controllers
//	SDNNodeReader       GET    /nodes/{node}/sdn/zones
//	                    GET    /nodes/{node}/sdn/zones/{zone}/content
//	SDNAdmin            POST   /cluster/sdn/zones
//	                    PUT    /cluster/sdn/zones/{zone}
//	                    DELETE /cluster/sdn/zones/{zone}
//	                    POST   /cluster/sdn/vnets
//	                    PUT    /cluster/sdn/vnets/{vnet}
//	                    DELETE /cluster/sdn/vnets/{vnet}
//	                    PUT    /cluster/sdn
//	SDNSubnetAdmin      POST   /cluster/sdn/vnets/{vnet}/subnets
//	                    DELETE /cluster/sdn/vnets/{vnet}/subnets/{subnet}
//	FirewallAdmin       GET    /cluster/firewall/options
//	                    PUT    /cluster/firewall/options
//	                    GET    /nodes/{node}/lxc/{vmid}/firewall/options
//	                    PUT    /nodes/{node}/lxc/{vmid}/firewall/options
//	                    GET    /nodes/{node}/lxc/{vmid}/firewall/rules
//	                    POST   /nodes/{node}/lxc/{vmid}/firewall/rules
//	                    DELETE /nodes/{node}/lxc/{vmid}/firewall/rules/{pos}
//	PoolAdmin           GET    /pools
//	                    POST   /pools
//	                    PUT    /pools
//	                    DELETE /pools
//	                    GET    /pools/{poolid}
//	                    PUT    /pools/{poolid}
//	                    DELETE /pools/{poolid}
//	HAReader            GET    /cluster/ha/status/current
//	                    GET    /cluster/ha/resources
//	HistoryReader       GET    /nodes/{node}/lxc/{vmid}/rrddata
//	                    GET    /nodes/{node}/rrddata
//	                    GET    /nodes/{node}/storage/{storage}/rrddata
//	ConsoleOpener       POST   /nodes/{node}/lxc/{vmid}/termproxy
//	                    POST   /nodes/{node}/lxc/{vmid}/vncproxy
//	                    GET    /nodes/{node}/lxc/{vmid}/vncwebsocket
//	TaskWaiter          GET    /nodes/{node}/tasks/{upid}/status
//	                    GET    /nodes/{node}/tasks/{upid}/log
//	TaskAdmin           GET    /nodes/{node}/tasks
//	                    DELETE /nodes/{node}/tasks/{upid}
//	                    GET    /cluster/tasks
//	AccessReader        GET    /access/users
//	                    GET    /access/users/{userid}/token
//	                    GET    /access/acl
//	                    GET    /access/roles/{roleid}
//	Inspector           GET    /nodes/{node}/version
//	                    GET    /nodes/{node}/apt/versions
//	                    GET    /nodes/{node}/certificates/info
//	                    GET    /nodes/{node}/time
//	                    GET    /nodes/{node}/storage/{storage}/status
//	                    GET    /cluster/options
//	                    GET    /storage
//	(login)             POST   /access/ticket
//
// What is known of the API's behaviour was read from the sources of Proxmox VE 9
// and checked against recorded answers of 9.1.4.
package proxmox
