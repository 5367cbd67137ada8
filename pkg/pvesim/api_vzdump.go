package pvesim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// backupJob is one call of vzdump.
type backupJob struct {
	vmids     []int
	skipped   []int // on other nodes
	command   string
	storage   string
	mode      string
	format    string
	notes     string
	protected bool
	remove    bool
	prune     map[string]int
	mayBackup func(vmid int) error
}

// createBackup is vzdump of PVE::API2::VZDump. Guests on other nodes are left out; if
// none is here the answer is the text OK and no task.
func createBackup(c *call) (result, error) {
	if err := c.mayVzdump(); err != nil {
		return result{}, err
	}
	if err := c.checkVzdump(); err != nil {
		return result{}, err
	}
	n := c.node
	job := backupJob{
		storage: c.params["storage"], mode: c.params["mode"], notes: c.params["notes-template"], protected: c.flag("protected"),
		remove: !c.has("remove") || c.flag("remove"), command: c.vzdumpCommand(), format: backupFormat(c.params["compress"]),
		mayBackup: func(vmid int) error { return c.need(guestACL(vmid), "VM.Backup") },
	}
	if job.storage == "" {
		job.storage = "local"
	}
	if job.mode == "" {
		job.mode = "snapshot"
	}
	job.prune = retention(c.params["prune-backups"])
	c.includedGuests(&job)
	if c.flag("stop") {
		if err := c.need("/nodes/"+n.name, "Sys.Modify"); err != nil {
			return result{}, err
		}
		n.tasks.StopMatching("vzdump", "")
		if len(job.vmids) == 0 {
			return result{data: "OK"}, nil
		}
	}
	if len(job.vmids) == 0 && !c.flag("all") {
		return result{data: "OK"}, nil
	}
	if err := c.need(storageACL(job.storage), "Datastore.AllocateSpace"); err != nil {
		return result{}, err
	}
	id := ""
	if len(job.vmids) == 1 {
		id = vmidText(job.vmids[0])
	}
	return c.startTask("vzdump", id, func(t *tasks.Task) error { return n.vzdump(t, job) })
}

// mayVzdump checks options that need more than the right to back up
// (assert_param_permission_common of PVE::API2::Backup).
func (c *call) mayVzdump() error {
	if c.who.isRoot() {
		return nil
	}
	for _, key := range []string{"dumpdir", "script", "tmpdir", "job-id"} {
		if c.has(key) {
			return paramError(key, "Only root may set this option.")
		}
	}
	for _, key := range []string{"bwlimit", "ionice", "performance"} {
		if c.has(key) {
			if err := c.need("/", "Sys.Modify"); err != nil {
				return err
			}
		}
	}
	if c.has("prune-backups") {
		storage := c.params["storage"]
		if storage == "" {
			storage = "local"
		}
		return c.need(storageACL(storage), "Datastore.Allocate")
	}
	return nil
}

// checkVzdump is verify_vzdump_parameters of PVE::VZDump.
func (c *call) checkVzdump() error {
	all, vmid, pool := c.flag("all"), c.has("vmid"), c.has("pool")
	switch {
	case c.flag("stdout"):
		return paramError("stdout", "option is only allowed on the command line interface.")
	case all && vmid:
		return paramError("all", "option conflicts with option 'vmid'")
	case c.has("exclude") && vmid:
		return paramError("exclude", "option conflicts with option 'vmid'")
	case pool && (all || vmid):
		return paramError("pool", "option conflicts with option '"+map[bool]string{true: "all", false: "vmid"}[all]+"'")
	case !all && !vmid && !pool && !c.flag("stop") && !c.has("exclude"):
		return paramError("vmid", "property is missing")
	}
	for _, id := range pveschema.SplitList(c.params["vmid"]) {
		if n, err := strconv.Atoi(id); err != nil || n < firstVMID {
			return paramError("vmid", "invalid format - value does not look like a valid VM ID\n")
		}
	}
	if c.has("storage") && c.has("dumpdir") {
		return die("cannot use options 'storage' and 'dumpdir' at the same time")
	}
	return nil
}

// includedGuests sorts what was asked for into here and elsewhere. A guest that is
// nowhere fails visibly in the task.
func (c *call) includedGuests(job *backupJob) {
	n := c.node
	if c.flag("all") || c.has("exclude") {
		excluded := pveschema.SplitList(c.params["exclude"])
		for _, vmid := range n.guests.ids(n) {
			if !slices.Contains(excluded, vmidText(vmid)) && c.may(guestACL(vmid), "VM.Backup") {
				job.vmids = append(job.vmids, vmid)
			}
		}
		return
	}
	for _, id := range pveschema.SplitList(c.params["vmid"]) {
		vmid, _ := strconv.Atoi(id) // checkVzdump has looked
		if owner := n.ownerOf(vmid); owner != nil && owner != n {
			job.skipped = append(job.skipped, vmid)
		} else {
			job.vmids = append(job.vmids, vmid)
		}
	}
	slices.Sort(job.vmids)
	slices.Sort(job.skipped)
}

// vzdumpCommand is the line with which the log begins.
func (c *call) vzdumpCommand() string {
	cmd := "vzdump"
	for _, id := range pveschema.SplitList(c.params["vmid"]) {
		cmd += " " + id
	}
	for _, key := range slices.Sorted(maps.Keys(c.params)) {
		if key == "vmid" {
			continue
		}
		value := c.params[key]
		if strings.ContainsAny(value, " '\"{}") || value == "" {
			value = "'" + value + "'"
		}
		cmd += fmt.Sprintf(" --%s %s", key, value)
	}
	return cmd
}

func backupFormat(compress string) string {
	switch compress {
	case "1", "lzo":
		return "tar.lzo"
	case "gzip":
		return "tar.gz"
	case "zstd":
		return "tar.zst"
	default:
		return "tar"
	}
}

// retention reads prune-backups; nil keeps everything.
func retention(s string) map[string]int {
	out := map[string]int{}
	for key, value := range properties(s, "") {
		if n, err := strconv.Atoi(value); err == nil && n > 0 {
			out[key] = n
		}
	}
	if out["keep-all"] > 0 || len(out) == 0 {
		return nil
	}
	return out
}

// vzdumpDefaults are those of an unchanged vzdump.conf.
func vzdumpDefaults(c *call) (result, error) {
	if id := c.params["storage"]; id != "" {
		if err := c.needAny(storageACL(id), "Datastore.Audit", "Datastore.AllocateSpace"); err != nil {
			return result{}, err
		}
		if _, err := c.node.findStorage(id); err != nil {
			return result{}, err
		}
	}
	return result{data: map[string]any{
		"mode": "snapshot", "compress": "0", "remove": 1, "stdexcludes": 1, "lockwait": 180, "stopwait": 10, "bwlimit": 0, "ionice": 7,
		"quiet": 0, "stop": 0, "all": 0, "pigz": 0, "zstd": 1, "protected": 0, "mailnotification": "always", "notification-mode": "auto",
		"prune-backups": map[string]any{"keep-all": "1"},
	}}, nil
}

// extractConfig shows the configuration in a backup.
func extractConfig(c *call) (result, error) {
	volid := c.params["volume"]
	id, name, ok := strings.Cut(volid, ":")
	if !ok {
		return result{}, die("Only root can pass arbitrary filesystem paths. at /usr/share/perl5/PVE/Storage.pm line 651.")
	}
	if _, err := c.node.findStorage(id); err != nil {
		return result{}, err
	}
	if err := c.mayReadBackup(volid, 0); err != nil {
		return result{}, err
	}
	b, ok := c.node.backup(volid)
	if !ok {
		return result{}, die("no such file: '/var/lib/vz/dump/%s'", strings.TrimPrefix(name, "backup/"))
	}
	text, err := b.fileNamed(archivedConfig)
	if err != nil {
		return result{}, err
	}
	return result{data: text}, nil
}

// mayReadBackup is check_volume_access of PVE::Storage for a backup: whoever owns the
// guest may, others need rights on both sides.
func (c *call) mayReadBackup(volid string, vmid int) error {
	id, name, _ := strings.Cut(volid, ":")
	m := backupRE.FindStringSubmatch(strings.TrimPrefix(name, "backup/"))
	if m == nil {
		return die("unable to parse directory volume name '%s'", name)
	}
	owner, _ := strconv.Atoi(m[1]) // digits
	if vmid != 0 && owner == vmid {
		return nil
	}
	if err := c.need(storageACL(id), "Datastore.AllocateSpace"); err != nil {
		return err
	}
	return c.need(guestACL(owner), "VM.Backup")
}
