// Package engine is the seam between the simulated Proxmox VE node and what its
// guests really are: real LXC containers in private namespaces (engine/lxc) or
// objects in memory (engine/mem).
//
// The node (package pvesim) owns everything that Proxmox itself would keep: guest
// configurations, locks, tasks, storages, staged network files. The engine owns
// only what a kernel would: root file systems, processes, links. An engine keeps no
// desired state: the node passes the whole Guest on every Start, so that an engine
// that was restarted needs nothing but its directory.
//
// Every method must be safe for concurrent use on different VMIDs. The node never
// calls two mutating methods for one VMID at the same time (it holds the guest's
// configuration lock, as Proxmox does).
package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// Errors that the node maps to the texts of the real thing.
var (
	// ErrNotRunning: the guest exists but has no init process.
	ErrNotRunning = errors.New("guest not running")
	// ErrNotExist: the engine has no root file system for that VMID.
	ErrNotExist = errors.New("guest does not exist")
	// ErrTemplateNotExist: the named template file is not on the node.
	ErrTemplateNotExist = errors.New("template does not exist")
	// ErrBridgeNotExist: a NIC names a bridge that the node's kernel does not have.
	ErrBridgeNotExist = errors.New("bridge does not exist")
	// ErrShutdownTimeout: the guest did not stop by itself in time and still runs.
	ErrShutdownTimeout = errors.New("guest did not stop")
)

// NIC is one network interface of a guest (Proxmox net[n]).
type NIC struct {
	Index    int    // n of net[n]; the host side is veth<vmid>i<n>
	Name     string // name inside the guest, eth0
	Bridge   string // bridge on the node
	HWAddr   string // fixed MAC, always set
	IP       string // "dhcp", "manual", "" or an IPv4 CIDR
	Gateway  string // IPv4 gateway or ""
	MTU      int    // 0 = the bridge's
	LinkDown bool
}

// Guest is everything an engine needs to make or start a guest.
type Guest struct {
	VMID     int
	Hostname string
	Template string // file name in the node's template directory
	// Archive is the template's file when it is somewhere else, as one that was uploaded is.
	Archive      string
	Unprivileged bool
	Nesting      bool
	Cores        int     // 0 = all
	CPULimit     float64 // 0 = none
	MemoryMiB    int
	SwapMiB      int
	DiskGiB      float64
	Nameserver   string // space separated, "" = the node's own resolv.conf is copied (as Proxmox does)
	SearchDomain string
	SSHKeys      string // authorized_keys of root, "" = none
	NICs         []NIC
	Mounts       []Mount
}

// Mount is a data volume of a guest (Proxmox mp[n]). Its files are the engine's, under
// the volume's name, and outlive the guest until RemoveVolume.
type Mount struct {
	Volume   string // volume id, local-lvm:vm-100-disk-1
	Path     string // where it is mounted in the guest, absolute
	ReadOnly bool
}

// Status is what the kernel says of a guest now.
type Status struct {
	Running   bool
	InitPID   int // in the node's pid namespace, 0 when stopped
	Uptime    time.Duration
	CPUTime   time.Duration // total used
	MemBytes  int64
	DiskBytes int64
	NetIn     int64
	NetOut    int64
}

// Interface is one line of what `ip address` shows inside a guest.
type Interface struct {
	Name      string
	HWAddr    string
	Addresses []string // CIDR, IPv4 and IPv6
}

// Command is one program run inside a guest.
type Command struct {
	Argv   []string
	Env    []string // K=V; the guest's default PATH is always set
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Size is that of a terminal, in characters.
type Size struct{ Columns, Rows int }

// Terminal is one end of a terminal that a shell in a guest runs on.
type Terminal struct {
	In     io.Reader
	Out    io.Writer
	Resize <-chan Size // may be nil
}

// Bridge is a Linux bridge that the node's interfaces file asks for.
type Bridge struct {
	Name    string
	Address string // CIDR or ""
	MTU     int
	Ports   []string
	// Tunnel joins the bridge to those of other nodes; nil is none. An engine of one node
	// alone makes the bridge without it.
	Tunnel *Tunnel
}

// Tunnel is a VXLAN between the addresses of nodes.
type Tunnel struct {
	VNI   int
	Local string   // this node's address, "" if it is none of the peers
	Peers []string // all addresses, this node's among them
}

// Engine makes guests real.
type Engine interface {
	// Name is "lxc" or "mem".
	Name() string

	// Create makes the root file system from the template; progress lines go to log.
	// A failed Create leaves nothing behind.
	Create(ctx context.Context, g Guest, log io.Writer) error
	// Destroy removes the root file system of a stopped guest; no error if there is none.
	Destroy(ctx context.Context, vmid int) error
	// Start boots the guest; it returns when init runs, not when the boot is complete.
	Start(ctx context.Context, g Guest) error
	// Stop kills the guest at once; no error if it is stopped already.
	Stop(ctx context.Context, vmid int) error
	// Shutdown asks the guest to halt and waits at most timeout (ErrShutdownTimeout).
	Shutdown(ctx context.Context, vmid int, timeout time.Duration) error
	// Update applies limits and NIC changes to a running guest (hot-plug).
	Update(ctx context.Context, g Guest) error

	Status(ctx context.Context, vmid int) (Status, error)
	Interfaces(ctx context.Context, vmid int) ([]Interface, error)
	// Exec runs a program in a running guest and returns its exit code (128+signal when
	// killed, 127 not found, 126 not executable). Cancelling ctx kills it.
	Exec(ctx context.Context, vmid int, c Command) (exit int, err error)

	// Console runs a root shell on a terminal, without a login, as lxc-attach does. It
	// returns when the shell ends, the terminal's input ends or ctx does; exit is the
	// shell's code.
	Console(ctx context.Context, vmid int, t Terminal) (exit int, err error)

	// Snapshot keeps the root file system of a guest, which may run, and these of its
	// volumes under a name; Rollback makes those of a stopped guest be as they were,
	// DropSnapshot forgets them (no error if there are none).
	Snapshot(ctx context.Context, vmid int, volumes []string, name string) error
	Rollback(ctx context.Context, vmid int, volumes []string, name string) error
	DropSnapshot(ctx context.Context, vmid int, volumes []string, name string) error
	// Clone makes the root file system of g from that of another guest, or from its
	// snapshot if the name is not "". A failed Clone leaves nothing behind.
	Clone(ctx context.Context, from int, snapshot string, g Guest) error
	// Dump writes the root file system as a tar archive with the owners that the guest
	// sees and names like ./etc/hosts; volumes that are mounted are left out.
	Dump(ctx context.Context, vmid int, w io.Writer) error
	// Restore makes the root file system of g from such an archive. A failed Restore
	// leaves nothing behind.
	Restore(ctx context.Context, g Guest, r io.Reader) error

	// CopyVolume gives a new volume the files of another one (or of its snapshot),
	// RenameVolume moves them, RemoveVolume deletes them. A volume that was never mounted
	// is empty and needs none of this; none of it is for volumes that a running guest has
	// mounted, except copying from a snapshot.
	CopyVolume(ctx context.Context, from, snapshot, to string) error
	RenameVolume(ctx context.Context, from, to string) error
	RemoveVolume(ctx context.Context, volume string) error
	// DumpVolume and RestoreVolume are Dump and Restore of a volume's files, also of one
	// that is mounted; unprivileged says whose identities it holds.
	DumpVolume(ctx context.Context, volume string, unprivileged bool, w io.Writer) error
	RestoreVolume(ctx context.Context, volume string, unprivileged bool, r io.Reader) error

	// ApplyNetwork makes the node's bridges be exactly these (links that the engine did
	// not make are left alone), as ifreload -a does. Ports of running guests stay attached.
	ApplyNetwork(ctx context.Context, bridges []Bridge) error
	// Bridges lists the bridges that exist now.
	Bridges(ctx context.Context) ([]string, error)

	// Dial opens a connection from the node (e.g. to an appliance's WAN address).
	Dial(ctx context.Context, network, address string) (net.Conn, error)

	// Close releases what the engine holds in this process; guests keep running.
	Close() error
}
