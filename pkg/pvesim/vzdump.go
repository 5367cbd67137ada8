package pvesim

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// vzdumpLockWait is how long a backup waits for the one before it on the same node.
const vzdumpLockWait = 180 * time.Minute

// vzdumpStopWait is what a guest gets to shut down in stop mode.
const vzdumpStopWait = 10 * time.Minute

// vzdump backs up one guest after the other; a node runs one job at a time.
func (n *Node) vzdump(t *tasks.Task, job backupJob) error {
	s, err := n.findStorage(job.storage)
	if err == nil && !slices.Contains(s.Content, "backup") {
		err = fmt.Errorf("can't use storage '%s' for backups - wrong content type", s.ID)
	}
	if err != nil {
		return fmt.Errorf("could not get storage information for '%s': %w", job.storage, err)
	}
	unlock, err := n.lockVzdump(t)
	if err != nil {
		return err
	}
	defer unlock()
	t.Logf("INFO: starting new backup job: %s", job.command)
	if len(job.skipped) > 0 {
		t.Logf("INFO: skip external VMs: %s", strings.Trim(strings.Join(strings.Fields(fmt.Sprint(job.skipped)), ", "), "[]"))
	}
	failed := 0
	for _, vmid := range job.vmids {
		if n.ownerOf(vmid) != nil {
			if err := job.mayBackup(vmid); err != nil {
				t.Logf("INFO: Backup job finished with errors")
				return err
			}
		}
		started := time.Now()
		err := n.backUp(t, s, job, vmid)
		if t.Context().Err() != nil {
			return t.Context().Err()
		}
		now := time.Now().Format("2006-01-02 15:04:05")
		if err != nil {
			failed++
			t.Logf("ERROR: Backup of VM %d failed - %v", vmid, err)
			t.Logf("INFO: Failed at %s", now)
			continue
		}
		t.Logf("INFO: Finished Backup of VM %d (%s)", vmid, clock(time.Since(started)))
		t.Logf("INFO: Backup finished at %s", now)
	}
	if failed > 0 {
		t.Logf("INFO: Backup job finished with errors")
		return errors.New("job errors")
	}
	t.Logf("INFO: Backup job finished successfully")
	return nil
}

// lockVzdump takes the node's global lock of vzdump.
func (n *Node) lockVzdump(t *tasks.Task) (unlock func(), err error) {
	select {
	case n.vzdumpLock <- struct{}{}:
		return func() { <-n.vzdumpLock }, nil
	default:
	}
	t.Logf("INFO: trying to get global lock - waiting...")
	timer := time.NewTimer(vzdumpLockWait)
	defer timer.Stop()
	select {
	case n.vzdumpLock <- struct{}{}:
		t.Logf("INFO: got global lock")
		return func() { <-n.vzdumpLock }, nil
	case <-t.Context().Done():
		return nil, t.Context().Err()
	case <-timer.C:
		return nil, errors.New("can't acquire lock '/var/run/vzdump.lock' - got timeout")
	}
}

// backUp is exec_backup_task of PVE::VZDump for one guest: locked with "backup", stopped
// in stop mode only, and unlocked whatever happens.
func (n *Node) backUp(t *tasks.Task, s Storage, job backupJob, vmid int) (err error) {
	ctx := t.Context()
	if n.ownerOf(vmid) == nil {
		return fmt.Errorf("unable to find VM '%d'", vmid)
	}
	t.Logf("INFO: Starting Backup of VM %d (lxc)", vmid)
	t.Logf("INFO: Backup started at %s", time.Now().Format("2006-01-02 15:04:05"))
	running := n.running(ctx, vmid)
	t.Logf("INFO: status = %s", map[bool]string{true: "running", false: "stopped"}[running])
	conf, err := n.setLock(ctx, vmid, "backup")
	if err != nil {
		return err
	}
	after := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, n.removeLock(after, vmid, "backup")) }()
	mode := job.mode
	if !running {
		mode = "stop"
	}
	if mode == "snapshot" && !n.hasFeature("snapshot", conf.Values, "", true) {
		t.Logf("INFO: mode failure - some volumes do not support snapshots")
		t.Logf("INFO: trying 'suspend' mode instead")
		mode = "suspend"
	}
	t.Logf("INFO: backup mode: %s", mode)
	t.Logf("INFO: ionice priority: 7")
	t.Logf("INFO: CT Name: %s", guestName(vmid, conf.Values))
	for _, v := range guestVolumes(conf.Values, false) {
		reason := "disabled"
		if v.kind() != "volume" {
			reason = "not a volume"
		}
		if v.inBackup() {
			t.Logf("INFO: including mount point %s ('%s') in backup", v.key, v.path)
		} else {
			t.Logf("INFO: excluding %s mount point %s ('%s') from backup (%s)", v.kind(), v.key, v.path, reason)
		}
	}
	switch {
	case mode == "stop" && running:
		t.Logf("INFO: stopping virtual guest")
		if err := n.halt(ctx, vmid, vzdumpStopWait, true); err != nil {
			return err
		}
		defer func() {
			t.Logf("INFO: restarting vm")
			err = errors.Join(err, n.engine.Start(after, engineGuest(vmid, conf.Values)))
		}()
	case mode == "suspend":
		t.Logf("INFO: suspending guest")
		t.Logf("INFO: resuming guest")
	case mode == "snapshot":
		t.Logf("INFO: create storage snapshot 'vzdump'")
		defer t.Logf("INFO: cleanup temporary 'vzdump' snapshot")
	}
	b, err := n.writeBackup(t, s, job, vmid, conf)
	if err != nil {
		return err
	}
	return n.finishBackup(t, s, job, b, conf)
}

// writeBackup makes the archive under another name and renames it when it is whole.
func (n *Node) writeBackup(t *tasks.Task, s Storage, job backupJob, vmid int, conf *guestconf.Config) (backupFile, error) {
	at := time.Now()
	b := backupFile{vmid: vmid, ctime: at.Unix(), format: job.format, name: fmt.Sprintf("vzdump-lxc-%d-%s.%s", vmid, at.Format(backupTime), job.format)}
	b.file = filepath.Join(n.backupDir(s), b.name)
	t.Logf("INFO: creating vzdump archive '/var/lib/vz/dump/%s'", b.name)
	if err := os.MkdirAll(n.backupDir(s), 0o700); err != nil {
		return b, err
	}
	f, err := os.CreateTemp(n.backupDir(s), ".dat-*")
	if err != nil {
		return b, err
	}
	defer os.Remove(f.Name()) // fails harmlessly after the rename
	counter := &countingWriter{w: f}
	z, err := compressor(job.format, counter)
	if err == nil {
		err = errors.Join(n.archive(t.Context(), z, vmid, conf), z.Close())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return b, err
	}
	if err := os.Rename(f.Name(), b.file); err != nil {
		return b, err
	}
	b.bytes = counter.n
	t.Logf("INFO: archive file size: %s", backupSize(b.bytes))
	return b, nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// backupSize is format_size of PVE::VZDump.
func backupSize(bytes int64) string {
	switch {
	case bytes < 1<<20:
		return fmt.Sprintf("%dKB", bytes>>10)
	case bytes < 1<<30:
		return fmt.Sprintf("%dMB", bytes>>20)
	default:
		return fmt.Sprintf("%.2fGB", float64(bytes)/(1<<30))
	}
}

// archive writes configuration, root file system and the volumes that are in the backup.
func (n *Node) archive(ctx context.Context, w io.Writer, vmid int, conf *guestconf.Config) error {
	kept := conf.Clone()
	delete(kept.Values, "lock")
	delete(kept.Values, "parent")
	kept.Snapshots, kept.Pending, kept.Deleted = nil, nil, nil
	text, err := kept.Format()
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	if err := errors.Join(addFile(tw, archivedConfig, text), addFile(tw, archivedFirewall, "")); err != nil {
		return err
	}
	add := func(dir string, dump func(io.Writer) error) error {
		return pipe(dump, func(r io.Reader) error { return copyEntries(ctx, tw, tar.NewReader(r), under(dir)) })
	}
	if err := add("/", func(w io.Writer) error { return n.engine.Dump(ctx, vmid, w) }); err != nil {
		return err
	}
	unprivileged := conf.Values["unprivileged"] == "1"
	for _, v := range guestVolumes(conf.Values, false) {
		if v.key == "rootfs" || !v.inBackup() {
			continue
		}
		if err := add(v.path, func(w io.Writer) error { return n.engine.DumpVolume(ctx, v.volid, unprivileged, w) }); err != nil {
			return err
		}
	}
	return tw.Close()
}

// finishBackup adds notes and protection, then prunes.
func (n *Node) finishBackup(t *tasks.Task, s Storage, job backupJob, b backupFile, conf *guestconf.Config) error {
	if job.notes != "" {
		t.Logf("INFO: adding notes to backup")
		notes, err := n.backupNotes(job.notes, b.vmid, guestName(b.vmid, conf.Values))
		if err != nil {
			t.Warnf("unable to add notes - %v", err)
		} else if err := b.setNotes(notes); err != nil {
			return err
		}
	}
	if job.protected {
		t.Logf("INFO: marking backup as protected")
		if err := b.setProtected(true); err != nil {
			return err
		}
	}
	if job.prune == nil || !job.remove {
		return nil
	}
	var keep []string
	for key, count := range job.prune {
		keep = append(keep, fmt.Sprintf("%s=%d", key, count))
	}
	slices.Sort(keep)
	t.Logf("INFO: prune older backups with retention: %s", strings.Join(keep, ", "))
	var own []backupFile
	for _, o := range n.backups(s) {
		if o.vmid == b.vmid && !o.protected() {
			own = append(own, o)
		}
	}
	pruned := 0
	for _, o := range pruneList(own, job.prune) {
		t.Logf("INFO: removing backup '%s:backup/%s'", s.ID, o.name)
		if err := o.remove(); err != nil {
			return err
		}
		pruned++
	}
	extra := ""
	if pruned > 0 {
		extra = " not covered by keep-retention policy"
	}
	t.Logf("INFO: pruned %d backup(s)%s", pruned, extra)
	return nil
}

// prunePeriods name the period of a time for each rule, as prune_mark_backup_group of
// PVE::Storage does.
var prunePeriods = []struct {
	rule   string
	period func(backupFile, time.Time) string
}{
	{"keep-last", func(b backupFile, _ time.Time) string { return b.name }},
	{"keep-hourly", func(_ backupFile, t time.Time) string { return t.Format("2006-01-02 15") }},
	{"keep-daily", func(_ backupFile, t time.Time) string { return t.Format("2006-01-02") }},
	{"keep-weekly", func(_ backupFile, t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, "/", w) }},
	{"keep-monthly", func(_ backupFile, t time.Time) string { return t.Format("2006-01") }},
	{"keep-yearly", func(_ backupFile, t time.Time) string { return t.Format("2006") }},
}

// pruneList chooses what no rule keeps. Each rule keeps the newest backup of so many
// periods that an earlier rule has not covered.
func pruneList(all []backupFile, rules map[string]int) []backupFile {
	newest := slices.Clone(all)
	slices.Reverse(newest)
	kept := map[string]bool{}
	for _, p := range prunePeriods {
		covered := map[string]bool{}
		for _, b := range newest {
			if kept[b.name] {
				covered[p.period(b, time.Unix(b.ctime, 0))] = true
			}
		}
		taken := 0
		for _, b := range newest {
			period := p.period(b, time.Unix(b.ctime, 0))
			if kept[b.name] || covered[period] || taken >= rules[p.rule] {
				continue
			}
			covered[period], kept[b.name] = true, true
			taken++
		}
	}
	return slices.DeleteFunc(newest, func(b backupFile) bool { return kept[b.name] })
}

var notesVariable = regexp.MustCompile(`\{\{([^\s{}]+)\}\}|\\(.)`)

// backupNotes fills a notes-template: {{cluster}}, {{guestname}}, {{node}}, {{vmid}}, \n
// and \\.
func (n *Node) backupNotes(template string, vmid int, name string) (string, error) {
	group := n.cfg.ClusterName
	if group == "" {
		group = "standalone node"
	}
	values := map[string]string{
		"{{cluster}}": group, "{{guestname}}": name, "{{node}}": n.name, "{{vmid}}": vmidText(vmid), `\n`: "\n", `\\`: `\`,
	}
	var unknown []string
	out := notesVariable.ReplaceAllStringFunc(template, func(s string) string {
		value, ok := values[s]
		if !ok {
			unknown = append(unknown, s)
		}
		return value
	})
	if len(unknown) > 0 {
		return "", fmt.Errorf("found unknown: %s", strings.Join(unknown, ", "))
	}
	return out, nil
}
