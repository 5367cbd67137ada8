package proxmox

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Version is the API's version (GET /version).
type Version struct {
	Version string `json:"version"` // e.g. 9.1.4
	Release string `json:"release"` // e.g. 9.1
	RepoID  string `json:"repoid"`
}

// AtLeast reports whether the version is major.minor or newer.
func (v Version) AtLeast(major, minor int) bool {
	a, rest, _ := strings.Cut(v.Version, ".")
	b, _, _ := strings.Cut(rest, ".")
	haveMajor, _ := strconv.Atoi(a)
	haveMinor, _ := strconv.Atoi(b)
	return haveMajor > major || haveMajor == major && haveMinor >= minor
}

// Version asks for the server's version: any valid credentials will do.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return fetch[Version](ctx, c, route(http.MethodGet, "/version"))
}

// Permissions are the caller's privileges: ACL path -> privilege -> whether it is
// inherited by the paths below.
type Permissions map[string]map[string]Bool

// Permissions asks what the caller may do (GET /access/permissions).
func (c *Client) Permissions(ctx context.Context) (Permissions, error) {
	return fetch[Permissions](ctx, c, route(http.MethodGet, "/access/permissions"))
}

// Has reports whether the caller has the privilege on path: listed there, or inherited
// from the nearest listed path above (the server lists every path with an own entry).
func (p Permissions) Has(path, privilege string) bool {
	for at := path; ; {
		if privs, ok := p[at]; ok {
			inherited, has := privs[privilege]
			return has && (at == path || bool(inherited))
		}
		if at == "/" || at == "" {
			return false
		}
		at = at[:strings.LastIndexByte(at, '/')]
		if at == "" {
			at = "/"
		}
	}
}

// ClusterStatusEntry is a row of GET /cluster/status: the cluster itself or a node.
type ClusterStatusEntry struct {
	ID   string `json:"id"`
	Type string `json:"type"` // cluster or node
	Name string `json:"name"`
	// Of a cluster.
	Nodes   Int  `json:"nodes"`
	Quorate Bool `json:"quorate"`
	Version Int  `json:"version"`
	// Of a node.
	IP     string `json:"ip"`
	NodeID Int    `json:"nodeid"`
	Online Bool   `json:"online"`
	Local  Bool   `json:"local"` // the node that answered
}

// ClusterStatus asks for quorum and nodes; it needs Sys.Audit on /. A node outside any
// cluster lists only itself.
func (c *Client) ClusterStatus(ctx context.Context) ([]ClusterStatusEntry, error) {
	return fetch[[]ClusterStatusEntry](ctx, c, route(http.MethodGet, "/cluster/status"))
}

// ResourceKind selects rows of GET /cluster/resources.
type ResourceKind string

// Kinds of resources. Guests are LXC and QEMU.
const (
	AllResources     ResourceKind = ""
	GuestResources   ResourceKind = "vm"
	StorageResources ResourceKind = "storage"
	NodeResources    ResourceKind = "node"
	SDNResources     ResourceKind = "sdn"
)

// Resource is a row of GET /cluster/resources. Which fields are set depends on Type.
type Resource struct {
	ID       string `json:"id"`   // e.g. lxc/100, node/pve
	Type     string `json:"type"` // lxc, qemu, node, storage, pool, sdn, network
	Node     string `json:"node"`
	VMID     Int    `json:"vmid"`
	Name     string `json:"name"`
	Status   string `json:"status"` // of a guest up to some 12 s old; "unknown" when nobody reports
	Tags     string `json:"tags"`   // fresh; see SplitTags
	Lock     string `json:"lock"`   // fresh
	Pool     string `json:"pool"`
	Template Bool   `json:"template"`
	HAState  string `json:"hastate"` // of a node: "maintenance" while it is to be left alone
	Uptime   Int    `json:"uptime"`  // seconds
	CPU      Float  `json:"cpu"`
	MaxCPU   Float  `json:"maxcpu"` // fractional with cpulimit
	Mem      Int    `json:"mem"`    // bytes, as the others below
	MaxMem   Int    `json:"maxmem"`
	Disk     Int    `json:"disk"`
	MaxDisk  Int    `json:"maxdisk"`
	NetIn    Int    `json:"netin"`
	NetOut   Int    `json:"netout"`
	Storage  string `json:"storage"`
	Plugin   string `json:"plugintype"`
	Content  string `json:"content"`
	Shared   Bool   `json:"shared"`
}

// ClusterResources lists what the caller may see, from all nodes, in one request. Use it
// for discovery, tags and locks, not for power state: that lags. What is missing may only
// be invisible, or on a node that does not report.
func (c *Client) ClusterResources(ctx context.Context, kind ResourceKind) ([]Resource, error) {
	return fetch[[]Resource](ctx, c, route(http.MethodGet, "/cluster/resources").with("type", string(kind)))
}

// NextID asks for the lowest free VMID, or, with vmid not 0, whether that one is free
// (see [IsVMIDTaken]). Nothing is reserved: the create is the claim.
func (c *Client) NextID(ctx context.Context, vmid int) (int, error) {
	n, err := fetch[Int](ctx, c, route(http.MethodGet, "/cluster/nextid").withInt("vmid", vmid))
	return int(n), err
}

// Node is a row of GET /nodes. Figures are missing without Sys.Audit on the node.
type Node struct {
	Node        string `json:"node"`
	Status      string `json:"status"` // online, offline or unknown
	Fingerprint string `json:"ssl_fingerprint"`
	Uptime      Int    `json:"uptime"`
	CPU         Float  `json:"cpu"`
	MaxCPU      Float  `json:"maxcpu"`
	Mem         Int    `json:"mem"`
	MaxMem      Int    `json:"maxmem"`
	Disk        Int    `json:"disk"`
	MaxDisk     Int    `json:"maxdisk"`
}

// Online reports whether the cluster thinks that the node is up.
func (n Node) Online() bool { return n.Status == "online" }

// Nodes lists the cluster's nodes.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	return fetch[[]Node](ctx, c, route(http.MethodGet, "/nodes"))
}

// NodeTime asks a node for its clock, to the second; it needs Sys.Audit on the node. A token
// or ticket is refused when both clocks are too far apart.
func (c *Client) NodeTime(ctx context.Context, node string) (time.Time, error) {
	if err := checkNode(node); err != nil {
		return time.Time{}, err
	}
	out, err := fetch[struct {
		Time Int `json:"time"`
	}](ctx, c, route(http.MethodGet, "/nodes/{node}/time", node))
	return time.Unix(int64(out.Time), 0).UTC(), err
}

// ClusterOptions are those of datacenter.cfg that matter to us.
type ClusterOptions struct {
	// MACPrefix is what addresses that the server makes begin with; "" is BC:24:11.
	MACPrefix string `json:"mac_prefix"`
	// TagStyle may make tags case sensitive and keep their order. UserTags may forbid tags
	// to those without Sys.Modify on /.
	TagStyle     map[string]Text `json:"tag-style"`
	UserTags     map[string]any  `json:"user-tag-access"`
	RegisterTags []string        `json:"registered-tags"`
	NextID       map[string]Text `json:"next-id"` // lower and upper
}

// ClusterOptions reads the cluster's options; it needs Sys.Audit on /.
func (c *Client) ClusterOptions(ctx context.Context) (ClusterOptions, error) {
	return fetch[ClusterOptions](ctx, c, route(http.MethodGet, "/cluster/options"))
}

// NodeStatus is GET /nodes/{node}/status. Sizes are in bytes.
type NodeStatus struct {
	PVEVersion string  `json:"pveversion"`
	Kernel     string  `json:"kversion"`
	Uptime     Int     `json:"uptime"`
	CPU        Float   `json:"cpu"`
	LoadAvg    []Float `json:"loadavg"`
	CPUInfo    struct {
		CPUs    Int    `json:"cpus"`
		Sockets Int    `json:"sockets"`
		Model   string `json:"model"`
	} `json:"cpuinfo"`
	Memory NodeSpace `json:"memory"`
	Swap   NodeSpace `json:"swap"`
	RootFS NodeSpace `json:"rootfs"`
}

// NodeSpace is how much of something a node has, in bytes.
type NodeSpace struct {
	Total     Int `json:"total"`
	Used      Int `json:"used"`
	Free      Int `json:"free"`
	Available Int `json:"available"`
	Avail     Int `json:"avail"`
}

// NodeStatus asks a node how it is; it needs Sys.Audit on the node.
func (c *Client) NodeStatus(ctx context.Context, node string) (NodeStatus, error) {
	if err := checkNode(node); err != nil {
		return NodeStatus{}, err
	}
	return fetch[NodeStatus](ctx, c, route(http.MethodGet, "/nodes/{node}/status", node))
}
