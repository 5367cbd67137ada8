package proxmox

import (
	"context"
	"net/http"
)

// Power states of a guest.
const (
	StatusRunning = "running"
	StatusStopped = "stopped"
)

// LXCStatus is GET .../status/current, and a row of GET /nodes/{node}/lxc. It is live.
// Sizes are in bytes.
type LXCStatus struct {
	VMID     Int    `json:"vmid"`
	Name     string `json:"name"`
	Status   string `json:"status"` // running or stopped
	Lock     string `json:"lock"`
	Tags     string `json:"tags"`
	Template Bool   `json:"template"`
	Uptime   Int    `json:"uptime"` // seconds
	PID      Int    `json:"pid"`    // of the guest's init on the node; 0 when stopped
	CPU      Float  `json:"cpu"`    // since the previous call in the same server process
	CPUs     Float  `json:"cpus"`
	Mem      Int    `json:"mem"`
	MaxMem   Int    `json:"maxmem"`
	Swap     Int    `json:"swap"`
	MaxSwap  Int    `json:"maxswap"`
	Disk     Int    `json:"disk"`
	MaxDisk  Int    `json:"maxdisk"`
	NetIn    Int    `json:"netin"`
	NetOut   Int    `json:"netout"`
	HA       struct {
		Managed Bool `json:"managed"`
	} `json:"ha"`
}

// Running reports whether the guest has an init process.
func (s LXCStatus) Running() bool { return s.Status == StatusRunning }

// LXCStatus asks how a guest is.
func (c *Client) LXCStatus(ctx context.Context, node string, vmid int) (LXCStatus, error) {
	if err := checkGuest(node, vmid); err != nil {
		return LXCStatus{}, err
	}
	return fetch[LXCStatus](ctx, c, route(http.MethodGet, "/nodes/{node}/lxc/{vmid}/status/current", node, vmid))
}

// ListLXC lists a node's guests that the caller may audit.
func (c *Client) ListLXC(ctx context.Context, node string) ([]LXCStatus, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	return fetch[[]LXCStatus](ctx, c, route(http.MethodGet, "/nodes/{node}/lxc", node))
}

// GuestInterface is a row of GET .../interfaces: an interface as the guest's kernel has
// it, lo included.
type GuestInterface struct {
	Name   string `json:"name"`
	HWAddr string `json:"hwaddr"` // lower case
	// Inet and Inet6 are one address of each family, with prefix.
	Inet  string `json:"inet"`
	Inet6 string `json:"inet6"`
	// Addresses are all of them, since Proxmox VE 8.4.
	Addresses []GuestAddress `json:"ip-addresses"`
}

// GuestAddress is one address of a guest's interface.
type GuestAddress struct {
	Address string `json:"ip-address"`
	Type    string `json:"ip-address-type"` // inet or inet6
	Prefix  Int    `json:"prefix"`
}

// LXCInterfaces asks a running guest's kernel for its interfaces; poll it to learn of DHCP
// leases. A guest that does not run has none, which is no error.
func (c *Client) LXCInterfaces(ctx context.Context, node string, vmid int) ([]GuestInterface, error) {
	if err := checkGuest(node, vmid); err != nil {
		return nil, err
	}
	return fetch[[]GuestInterface](ctx, c, route(http.MethodGet, "/nodes/{node}/lxc/{vmid}/interfaces", node, vmid))
}
