package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Modes of a backup. Where a storage cannot make snapshots the server falls back to
// suspending the guest, and says so in the task's log.
const (
	BackupSnapshot = "snapshot"
	BackupSuspend  = "suspend"
	BackupStop     = "stop"
)

// Vzdump says what to back up, and how. A zero field is not sent, except for pruning.
type Vzdump struct {
	VMIDs    []int
	Storage  string
	Mode     string // default snapshot
	Compress string // 0, gzip, lzo, zstd
	// Prune is such as keep-last=3: older backups of the same guests are removed
	// afterwards. "" removes none; the server's own default would prune by the storage's
	// setting.
	Prune string
	// Notes may contain {{guestname}}, {{node}}, {{vmid}} and {{cluster}}.
	Notes     string
	Protected bool
}

// Vzdump starts a backup. A node runs one at a time; others wait in their tasks. Mount
// points without backup=1 are left out. An answer without a task, when there is nothing to
// do on this node, is an error that is no unknown outcome.
func (c *Client) Vzdump(ctx context.Context, node string, v Vzdump) (UPID, error) {
	err := checkStorage(node, v.Storage)
	ids := make([]string, len(v.VMIDs))
	for i, id := range v.VMIDs {
		err = errors.Join(err, checkGuest(node, id))
		ids[i] = strconv.Itoa(id)
	}
	if len(ids) == 0 {
		err = errors.Join(err, errors.New("proxmox: back up: no guest given"))
	}
	if err != nil {
		return UPID{}, err
	}
	r := route(http.MethodPost, "/nodes/{node}/vzdump", node).withList("vmid", ids).with("storage", v.Storage).
		with("mode", v.Mode).with("compress", v.Compress).with("notes-template", v.Notes).withBool("protected", v.Protected)
	if v.Prune == "" {
		r.params.Set("remove", "0")
	} else {
		r = r.with("prune-backups", v.Prune)
	}
	answer, err := fetch[Text](ctx, c, r)
	if err != nil {
		return UPID{}, err
	}
	if answer == "OK" {
		return UPID{}, fmt.Errorf("back up %s on %s: %w", strings.Join(ids, ", "), node, ErrNothingToDo)
	}
	upid, err := ParseUPID(string(answer))
	if err != nil {
		return UPID{}, &TransportError{Method: r.method, Path: r.text, Sent: true, Err: err}
	}
	return upid, nil
}

// Backups lists the backups on a storage: of one guest, or of all (0).
func (c *Client) Backups(ctx context.Context, node, storage string, vmid int) ([]Volid, error) {
	if err := checkStorage(node, storage); err != nil {
		return nil, err
	}
	r := route(http.MethodGet, "/nodes/{node}/storage/{storage}/content", node, storage)
	return fetch[[]Volid](ctx, c, r.with("content", ContentBackup).withInt("vmid", vmid))
}

// BackupConfig reads the guest's configuration out of a backup: the file's text, as in
// /etc/pve/lxc.
func (c *Client) BackupConfig(ctx context.Context, node, volid string) (string, error) {
	if err := checkVolid(node, volid); err != nil {
		return "", err
	}
	r := route(http.MethodGet, "/nodes/{node}/vzdump/extractconfig", node).with("volume", volid)
	return fetch[string](ctx, c, r)
}

// LXCRestore says how a guest is made from a backup.
type LXCRestore struct {
	VMID   int
	Backup string // volume id
	// Storage is where volumes go; sizes come from the backup.
	Storage string
	// Replace destroys the existing, stopped guest of that VMID first. Volumes of mount
	// points that are not in the backup are made anew, empty.
	Replace bool
	// Unique gives the NICs new MAC addresses: for a copy beside the original.
	Unique       bool
	Unprivileged bool
	Hostname     string
	Pool         string
	Start        bool // in a task of its own, see LXCCreate.Start
	// Extra are parameters not named above, as the API takes them.
	Extra map[string]string
}

// RestoreLXC makes a guest from a backup. Without Replace an existing VMID is refused
// ([IsVMIDTaken]).
func (c *Client) RestoreLXC(ctx context.Context, node string, l LXCRestore) (UPID, error) {
	if err := errors.Join(checkGuest(node, l.VMID), checkVolid(node, l.Backup)); err != nil {
		return UPID{}, err
	}
	r := route(http.MethodPost, "/nodes/{node}/lxc", node)
	for k, v := range l.Extra {
		r.params.Set(k, v)
	}
	r.params.Set("unprivileged", formatBool(l.Unprivileged))
	r = r.withInt("vmid", l.VMID).with("ostemplate", l.Backup).withBool("restore", true).
		with("storage", l.Storage).withBool("force", l.Replace).withBool("unique", l.Unique).
		with("hostname", l.Hostname).with("pool", l.Pool).withBool("start", l.Start)
	return launch(ctx, c, r.allocatingOn(l.Storage))
}
