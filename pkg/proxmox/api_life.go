package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// LXCClone says what a copy of a guest shall be. A zero field is not sent.
type LXCClone struct {
	NewID       int
	Hostname    string
	Description string
	Pool        string
	// Snapshot is which state is copied; "" is the present one. A running guest can be
	// copied from a snapshot only.
	Snapshot string
	// Full copies all data; otherwise a template is cloned by reference, and anything else
	// fully as well. Storage is where a full copy goes, "" where the source is.
	Full    bool
	Storage string
	// Target is another node; that needs shared storage.
	Target string
}

// CloneLXC copies a guest. NICs get new MAC addresses, but a fixed IP address is copied as
// it is: set the NICs of the copy before it starts.
func (c *Client) CloneLXC(ctx context.Context, node string, vmid int, l LXCClone) (UPID, error) {
	if err := errors.Join(checkGuest(node, vmid), checkGuest(node, l.NewID)); err != nil {
		return UPID{}, err
	}
	r := route(http.MethodPost, "/nodes/{node}/lxc/{vmid}/clone", node, vmid).withInt("newid", l.NewID).
		with("hostname", l.Hostname).with("description", l.Description).with("pool", l.Pool).
		with("snapname", l.Snapshot).withBool("full", l.Full).with("storage", l.Storage).with("target", l.Target)
	return launch(ctx, c, r.allocatingOn(l.Storage))
}

// LXCMigrate says how a guest goes to another node.
type LXCMigrate struct {
	Target string
	// Restart stops a running guest, moves it and starts it there: there is no live
	// migration of containers. Timeout is how long it may take to stop; 0 is 180 s.
	Restart bool
	Timeout time.Duration
	// TargetStorage maps storages, "1" or from:to pairs; "" keeps the names.
	TargetStorage string
}

// MigrateLXC moves a guest. Afterwards every request for it must name the new node.
func (c *Client) MigrateLXC(ctx context.Context, node string, vmid int, m LXCMigrate) (UPID, error) {
	if err := errors.Join(checkGuest(node, vmid), checkNode(m.Target)); err != nil {
		return UPID{}, err
	}
	r := route(http.MethodPost, "/nodes/{node}/lxc/{vmid}/migrate", node, vmid).with("target", m.Target).
		withBool("restart", m.Restart).withInt("timeout", wholeSeconds(m.Timeout)).with("target-storage", m.TargetStorage)
	return launch(ctx, c, r)
}

// TemplateLXC turns a stopped guest without snapshots into a template, which the API
// cannot undo. The server answers before the work is done and names no task: watch
// [LXCConfig.Template].
func (c *Client) TemplateLXC(ctx context.Context, node string, vmid int) error {
	if err := checkGuest(node, vmid); err != nil {
		return err
	}
	_, err := c.call(ctx, route(http.MethodPost, "/nodes/{node}/lxc/{vmid}/template", node, vmid), nil)
	return err
}

// VolumeMove moves a guest's volume to another storage, or to another stopped guest on the
// same one, where it keeps its data and options. Exactly one of Storage and Guest is set.
type VolumeMove struct {
	Volume  string // rootfs or mp[n]
	Storage string
	// Delete removes the source after a move to another storage; it stays as unused[n]
	// otherwise.
	Delete bool
	// Guest is the receiving guest, GuestVolume its key, "" the same as Volume.
	Guest       int
	GuestVolume string
	// Digest and GuestDigest make the move conditional on both configurations.
	Digest, GuestDigest string
}

// MoveVolumeLXC moves a volume. Between two guests on one storage it is a rename, whatever
// the volume's size.
func (c *Client) MoveVolumeLXC(ctx context.Context, node string, vmid int, m VolumeMove) (UPID, error) {
	if err := checkGuest(node, vmid); err != nil {
		return UPID{}, err
	}
	if (m.Storage == "") == (m.Guest == 0) {
		return UPID{}, fmt.Errorf("proxmox: move %s of guest %d: give a storage or a guest", m.Volume, vmid)
	}
	if m.Guest != 0 && !ValidVMID(m.Guest) {
		return UPID{}, fmt.Errorf("proxmox: move %s of guest %d: %d is not a VMID", m.Volume, vmid, m.Guest)
	}
	r := route(http.MethodPost, "/nodes/{node}/lxc/{vmid}/move_volume", node, vmid).with("volume", m.Volume).
		with("storage", m.Storage).withBool("delete", m.Delete).withInt("target-vmid", m.Guest).
		with("target-volume", m.GuestVolume).with("digest", m.Digest).with("target-digest", m.GuestDigest)
	return launch(ctx, c, r.allocatingOn(m.Storage))
}

// Feature is something that a guest's storages can do, or not.
type Feature string

// Features of [Client.HasFeature].
const (
	FeatureSnapshot Feature = "snapshot"
	FeatureClone    Feature = "clone" // by reference, of a template or snapshot
	FeatureCopy     Feature = "copy"
)

// HasFeature asks whether all volumes of a guest can do f.
func (c *Client) HasFeature(ctx context.Context, node string, vmid int, f Feature) (bool, error) {
	if err := checkGuest(node, vmid); err != nil {
		return false, err
	}
	out, err := fetch[struct {
		Has Bool `json:"hasFeature"`
	}](ctx, c, route(http.MethodGet, "/nodes/{node}/lxc/{vmid}/feature", node, vmid).with("feature", string(f)))
	return bool(out.Has), err
}
