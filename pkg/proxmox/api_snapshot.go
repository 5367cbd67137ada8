package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
)

// CurrentSnapshot is the name of the row that stands for the guest as it is now.
const CurrentSnapshot = "current"

// Snapshot is a row of GET .../snapshot.
type Snapshot struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Parent      string `json:"parent"`
	SnapTime    Int    `json:"snaptime"` // seconds of the epoch; 0 for the current state
	// Running and Digest are of the current state only.
	Running Bool   `json:"running"`
	Digest  string `json:"digest"`
}

// pve-configid of pve-common, with a snapshot's length.
var snapshotName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{1,39}$`)

// ValidSnapshotName reports whether a snapshot can have that name: 2 to 40 characters of
// letters, digits, _ and -, a letter first, and not "current".
func ValidSnapshotName(name string) bool {
	return snapshotName.MatchString(name) && name != CurrentSnapshot
}

func checkSnapshot(node string, vmid int, name string) error {
	if !ValidSnapshotName(name) {
		return fmt.Errorf("proxmox: %.60q is not a snapshot's name: 2 to 40 letters, digits, _ and -, a letter first", name)
	}
	return checkGuest(node, vmid)
}

// Snapshots lists a guest's snapshots, and the row [CurrentSnapshot].
func (c *Client) Snapshots(ctx context.Context, node string, vmid int) ([]Snapshot, error) {
	if err := checkGuest(node, vmid); err != nil {
		return nil, err
	}
	return fetch[[]Snapshot](ctx, c, route(http.MethodGet, "/nodes/{node}/lxc/{vmid}/snapshot", node, vmid))
}

// CreateSnapshot freezes a guest for a moment and keeps its state. Storages that cannot do
// it fail the task: see [Client.HasFeature].
func (c *Client) CreateSnapshot(ctx context.Context, node string, vmid int, name, description string) (UPID, error) {
	if err := checkSnapshot(node, vmid, name); err != nil {
		return UPID{}, err
	}
	r := route(http.MethodPost, "/nodes/{node}/lxc/{vmid}/snapshot", node, vmid)
	return launch(ctx, c, r.with("snapname", name).with("description", description))
}

// RollbackSnapshot brings a guest back to a snapshot. What was written since is lost, and
// a guest that runs is stopped; start starts it afterwards.
func (c *Client) RollbackSnapshot(ctx context.Context, node string, vmid int, name string, start bool) (UPID, error) {
	if err := checkSnapshot(node, vmid, name); err != nil {
		return UPID{}, err
	}
	r := route(http.MethodPost, "/nodes/{node}/lxc/{vmid}/snapshot/{snapname}/rollback", node, vmid, name)
	return launch(ctx, c, r.withBool("start", start))
}

// DeleteSnapshot removes a snapshot; force takes it out of the configuration although its
// volumes' snapshots cannot be removed.
func (c *Client) DeleteSnapshot(ctx context.Context, node string, vmid int, name string, force bool) (UPID, error) {
	if err := checkSnapshot(node, vmid, name); err != nil {
		return UPID{}, err
	}
	r := route(http.MethodDelete, "/nodes/{node}/lxc/{vmid}/snapshot/{snapname}", node, vmid, name)
	return launch(ctx, c, r.withBool("force", force))
}
