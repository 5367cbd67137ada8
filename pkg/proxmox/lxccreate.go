package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// LXCCreate describes a new guest. A zero field is not sent, so the server's default
// holds, except for Unprivileged: its default differs between versions.
type LXCCreate struct {
	VMID int
	// Template is a volume id, STORAGE:vztmpl/NAME.
	Template     string
	Hostname     string
	Unprivileged bool
	RootFS       Volume
	MountPoints  map[int]Volume // mp[n], 0 to 255
	NICs         map[int]NIC    // net[n], 0 to 31
	Cores        int
	CPULimit     float64
	CPUUnits     int
	MemoryMiB    int // server's default 512
	// SwapMiB nil is the server's default, 512.
	SwapMiB *int
	// Features, e.g. nesting=1 and nothing else: any other key is for root@pam only.
	Features     PropertyString
	Tags         []string
	Description  string // at most 8192 bytes
	Nameserver   string // blank separated; "" copies the node's
	SearchDomain string
	OnBoot       bool
	Startup      string // order=2,up=5
	Protection   bool
	OSType       string // "" is detected
	Arch         string
	Timezone     string
	Pool         string
	Password     string // "" locks the password
	// SSHKeys are lines for root's authorized_keys.
	SSHKeys []string
	// Start starts the guest when it is made, in a task of its own whose end the create
	// task does not report: prefer StartLXC.
	Start bool
	// Extra are parameters not named above, as the API takes them.
	Extra map[string]string
}

func (l LXCCreate) check(node string) error {
	if l.Template == "" {
		return fmt.Errorf("proxmox: create guest %d: no template", l.VMID)
	}
	for n := range l.MountPoints {
		if n < 0 || n > 255 {
			return fmt.Errorf("proxmox: create guest %d: mp%d is not within mp0 to mp255", l.VMID, n)
		}
	}
	for n := range l.NICs {
		if n < 0 || n > 31 {
			return fmt.Errorf("proxmox: create guest %d: net%d is not within net0 to net31", l.VMID, n)
		}
	}
	return checkGuest(node, l.VMID)
}

func (l LXCCreate) fill(r request) request {
	for k, v := range l.Extra {
		r.params.Set(k, v)
	}
	r.params.Set("unprivileged", formatBool(l.Unprivileged))
	r = r.withInt("vmid", l.VMID).with("ostemplate", l.Template).with("hostname", l.Hostname).
		withInt("cores", l.Cores).withInt("cpuunits", l.CPUUnits).withInt("memory", l.MemoryMiB).
		with("features", l.Features.String()).with("tags", JoinTags(l.Tags)).with("description", l.Description).
		with("nameserver", l.Nameserver).with("searchdomain", l.SearchDomain).
		withBool("onboot", l.OnBoot).with("startup", l.Startup).withBool("protection", l.Protection).
		with("ostype", l.OSType).with("arch", l.Arch).with("timezone", l.Timezone).with("pool", l.Pool).
		with("password", l.Password).with("ssh-public-keys", strings.Join(l.SSHKeys, "\n")).
		withBool("start", l.Start)
	if l.CPULimit != 0 {
		r = r.with("cpulimit", strconv.FormatFloat(l.CPULimit, 'f', -1, 64))
	}
	if l.SwapMiB != nil {
		r = r.with("swap", strconv.Itoa(*l.SwapMiB))
	}
	if l.RootFS.Source != "" {
		r = r.with("rootfs", l.RootFS.String())
	}
	for n, v := range l.MountPoints {
		r = r.with("mp"+strconv.Itoa(n), v.String())
	}
	for n, nic := range l.NICs {
		r = r.with("net"+strconv.Itoa(n), nic.String())
	}
	return r
}

// CreateLXC makes a guest. What the server can check at once is refused at once
// ([IsVMIDTaken], [IsForbidden], [IsInvalid]); a missing template, for instance, only
// fails the task, which then removes the guest again.
func (c *Client) CreateLXC(ctx context.Context, node string, l LXCCreate) (UPID, error) {
	if err := l.check(node); err != nil {
		return UPID{}, err
	}
	r := l.fill(route(http.MethodPost, "/nodes/{node}/lxc", node))
	return launch(ctx, c, r.allocatingOn(l.RootFS.Storage()))
}

// LXCUpdate is a change of a guest's configuration. See LXCConfig for the form of values.
type LXCUpdate struct {
	Set    map[string]string
	Delete []string
	// Revert are keys whose pending change is dropped.
	Revert []string
	// Digest, when set, makes the change conditional on the configuration that was read:
	// otherwise [IsDigestConflict].
	Digest string
}

// Empty reports whether there is nothing to change.
func (u LXCUpdate) Empty() bool { return len(u.Set)+len(u.Delete)+len(u.Revert) == 0 }

// UpdateLXC changes a guest's configuration, at once. On a running guest some keys take
// effect live and others become pending (see LXCPending). An empty change is not sent.
func (c *Client) UpdateLXC(ctx context.Context, node string, vmid int, u LXCUpdate) error {
	if err := checkGuest(node, vmid); err != nil {
		return err
	}
	if u.Empty() {
		return nil
	}
	r := route(http.MethodPut, "/nodes/{node}/lxc/{vmid}/config", node, vmid)
	for k, v := range u.Set {
		r.params.Set(k, v)
	}
	r = r.withList("delete", u.Delete).withList("revert", u.Revert).with("digest", u.Digest)
	_, err := c.call(ctx, r, nil)
	return err
}

// ResizeLXC grows a volume: disk is rootfs or mp[n], size is 10G or +2G. Shrinking is
// refused. It is refused as well when the volume has that size.
func (c *Client) ResizeLXC(ctx context.Context, node string, vmid int, disk, size string) (UPID, error) {
	if err := checkGuest(node, vmid); err != nil {
		return UPID{}, err
	}
	r := route(http.MethodPut, "/nodes/{node}/lxc/{vmid}/resize", node, vmid)
	return launch(ctx, c, r.with("disk", disk).with("size", size))
}

// LXCDelete says how a guest is destroyed. Its volumes always go with it.
type LXCDelete struct {
	Purge              bool // also from backup jobs, replication and HA
	Force              bool // even if it runs
	UnreferencedVolume bool // also volumes of its VMID that its configuration does not name
}

// DeleteLXC destroys a guest and its volumes. While it goes, its configuration carries
// the lock "destroyed".
func (c *Client) DeleteLXC(ctx context.Context, node string, vmid int, d LXCDelete) (UPID, error) {
	if err := checkGuest(node, vmid); err != nil {
		return UPID{}, err
	}
	r := route(http.MethodDelete, "/nodes/{node}/lxc/{vmid}", node, vmid).withBool("purge", d.Purge).
		withBool("force", d.Force).withBool("destroy-unreferenced-disks", d.UnreferencedVolume)
	return launch(ctx, c, r)
}
