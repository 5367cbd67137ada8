package pvesim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// defaultMigrateTimeout is what a guest gets to shut down in restart mode.
const defaultMigrateTimeout = 180 * time.Second

// migration is one migration under way.
type migration struct {
	vmid    int
	to      *Node
	restart bool
	online  bool
	timeout time.Duration
	storage map[string]string // target storage by source storage, "" is the default
	user    string
}

// migratePreconditions is GET migrate: which nodes the guest may go to.
func migratePreconditions(c *call) (result, error) {
	n := c.node
	if err := n.needQuorum(); err != nil {
		return result{}, err
	}
	g, err := n.guests.load(n, c.vmid())
	if err != nil {
		return result{}, err
	}
	if err := checkLock(g.conf); err != nil {
		return result{}, err
	}
	allowed := []string{}
	for _, m := range n.nodes {
		if m != n {
			allowed = append(allowed, m.name)
		}
	}
	return result{data: map[string]any{
		"running": number(n.running(c.ctx, g.vmid)), "allowed-nodes": allowed, "not-allowed-nodes": map[string]any{},
	}}, nil
}

// migrateGuest is migrate_vm of PVE::API2::LXC. There is no live migration.
func migrateGuest(c *call) (result, error) {
	n, name := c.node, c.params["target"]
	m := migration{vmid: c.vmid(), restart: c.flag("restart"), online: c.flag("online"), timeout: defaultMigrateTimeout, user: c.who.id}
	if c.has("timeout") {
		m.timeout = time.Duration(c.number("timeout", 0)) * time.Second
	}
	if name == n.name {
		return result{}, paramError("target", "target is local node.")
	}
	if err := n.needQuorum(); err != nil {
		return result{}, err
	}
	if m.to = n.node(name); m.to == nil {
		return result{}, errNoNode(name)
	}
	if _, err := n.guests.load(n, m.vmid); err != nil {
		return result{}, err
	}
	if n.running(c.ctx, m.vmid) && !m.online && !m.restart {
		return result{}, die("can't migrate running container without --online or --restart")
	}
	if err := c.storageMap(&m); err != nil {
		return result{}, err
	}
	return c.startTask("vzmigrate", vmidText(m.vmid), func(t *tasks.Task) error { return n.migrate(t, m) })
}

// storageMap reads target-storage: one storage for all, pairs SOURCE:TARGET, or 1 for
// the same on both sides.
func (c *call) storageMap(m *migration) error {
	m.storage = map[string]string{}
	list := pveschema.SplitList(c.params["target-storage"])
	if len(list) == 0 || slices.Contains(list, "1") {
		return nil
	}
	if err := c.need(guestACL(m.vmid), "VM.Config.Disk"); err != nil {
		return err
	}
	for _, pair := range list {
		from, to, ok := strings.Cut(pair, ":")
		if !ok {
			from, to = "", pair
		}
		m.storage[from] = to
		if _, err := c.node.findStorage(to); err != nil {
			return err
		}
		if err := c.need(storageACL(to), "Datastore.AllocateSpace"); err != nil {
			return err
		}
	}
	return nil
}

func (m migration) target(storage string) string {
	for _, from := range []string{storage, ""} {
		if to, ok := m.storage[from]; ok {
			return to
		}
	}
	return storage
}

// migrate is the body of the task. The guest's file lock is held throughout, the lock
// option is "migrate" while volumes are copied.
func (n *Node) migrate(t *tasks.Task, m migration) error {
	ctx := t.Context()
	started := time.Now()
	unlock, err := n.guests.lock(ctx, m.vmid, n.cfg.LockTimeout)
	if err != nil {
		return err
	}
	defer unlock()
	g, err := n.guests.load(n, m.vmid)
	if err != nil {
		return err
	}
	running := n.running(ctx, m.vmid)
	if err := n.prepareMigration(g, m, running); err != nil {
		return err
	}
	say := func(level, format string, args ...any) {
		t.Logf("%s %s: %s", time.Now().Format("2006-01-02 15:04:05"), level, fmt.Sprintf(format, args...))
	}
	if running {
		say("INFO", "shutdown CT %d", m.vmid)
		if err := n.halt(ctx, m.vmid, m.timeout, true); err != nil {
			return err
		}
	}
	err = n.moveGuest(ctx, g, m, say)
	if err != nil {
		say("ERROR", "%v", err)
		say("INFO", "aborting phase 1 - cleanup resources")
	} else {
		say("INFO", "start final cleanup")
	}
	if running && m.restart {
		err = errors.Join(err, n.startAfterMigration(m, err == nil, say))
	}
	took := time.Since(started).Round(time.Second)
	if err != nil {
		say("ERROR", "migration aborted (duration %s): %v", clock(took), err)
		return errors.New("migration aborted")
	}
	say("INFO", "migration finished successfully (duration %s)", clock(took))
	return nil
}

// startAfterMigration boots the guest again, on the target or, after a failure, here.
func (n *Node) startAfterMigration(m migration, moved bool, say func(level, format string, args ...any)) error {
	at := n
	if moved {
		at = m.to
		say("INFO", "start container on target node")
	}
	_, err := at.startTask("vzstart", vmidText(m.vmid), m.user, func(t *tasks.Task) error { return at.start(t, m.vmid) })
	return err
}

// clock is a duration as hours, minutes and seconds.
func clock(d time.Duration) string {
	s := int(d / time.Second)
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}

// prepareMigration is prepare of PVE::LXC::Migrate.
func (n *Node) prepareMigration(g *guestFile, m migration, running bool) error {
	if err := checkLock(g.conf); err != nil {
		return err
	}
	if running && m.online {
		return errors.New("lxc live migration is currently not implemented")
	}
	if running && !m.restart {
		return errors.New("running container can only be migrated in restart mode")
	}
	for _, v := range guestVolumes(g.conf.Values, true) {
		if v.kind() != "volume" {
			if v.options["shared"] == "1" {
				continue
			}
			return fmt.Errorf("cannot migrate local %s mount point '%s'", v.kind(), v.key)
		}
		s, err := n.findStorage(v.storage())
		if err != nil {
			return err
		}
		if !s.Shared {
			if s, err = m.to.findStorage(m.target(s.ID)); err != nil {
				return err
			}
		}
		if !slices.Contains(s.Content, "rootdir") {
			return fmt.Errorf("%s: content type 'rootdir' is not available on storage '%s'", v.volid, s.ID)
		}
	}
	if !m.to.Online() {
		//lint:ignore ST1005 the real text
		return errors.New("Can't connect to destination address using public key")
	}
	return nil
}

// moveGuest copies what is local and hands the configuration over.
func (n *Node) moveGuest(ctx context.Context, g *guestFile, m migration, say func(level, format string, args ...any)) error {
	say("INFO", "starting migration of CT %d to node '%s' (%s)", m.vmid, m.to.name, m.to.ip())
	conf := g.conf.Clone()
	conf.Values["lock"] = "migrate"
	if err := n.guests.store(n, m.vmid, conf); err != nil {
		return err
	}
	undo := func(err error) error {
		delete(conf.Values, "lock")
		return errors.Join(err, n.guests.store(n, m.vmid, g.conf))
	}
	renamed := map[string]string{} // volume ids on the target
	for _, v := range guestVolumes(conf.Values, true) {
		if v.kind() != "volume" {
			continue
		}
		s, _ := n.storageByID(v.storage()) // prepareMigration has found it
		if s.Shared {
			say("INFO", "volume '%s' is on shared storage '%s'", v.volid, s.ID)
			continue
		}
		if usedBySnapshots(conf, v.volid) && s.Type != "zfspool" && s.Type != "btrfs" {
			say("WARN", "can't migrate local volume '%s': non-migratable snapshot exists", v.volid)
			return undo(errors.New("can't migrate CT - check log"))
		}
		say("INFO", "found local volume '%s' (in current VM config)", v.volid)
		renamed[v.volid] = m.target(s.ID)
	}
	delete(conf.Values, "lock")
	if err := n.handOver(ctx, g, m.to, conf, renamed); err != nil {
		return undo(err)
	}
	return nil
}

// handOver moves a stopped guest to another node: its files, the volumes that local
// names with their target storages, and at last its configuration, whose rename is the
// moment from which the other node has it.
func (n *Node) handOver(ctx context.Context, g *guestFile, to *Node, conf *guestconf.Config, local map[string]string) (err error) {
	names := map[string]string{}
	defer func() {
		if err != nil {
			after := context.WithoutCancel(ctx)
			err = errors.Join(err, to.engine.Destroy(after, g.vmid), to.freeVolumes(after, slices.Collect(maps.Values(names))...))
		}
	}()
	for _, volid := range slices.Sorted(maps.Keys(local)) {
		s, err := to.findStorage(local[volid])
		if err != nil {
			return err
		}
		st := n.stateOf(volid)
		st.mu.Lock()
		old, ok := st.Volumes[volid]
		st.mu.Unlock()
		if !ok {
			return errNoVolume(volid)
		}
		if names[volid], err = to.allocate(s, g.vmid, old.Bytes); err != nil {
			return err
		}
	}
	renameVolumes(n, conf, names)
	if err := n.sendFiles(ctx, g, to, conf, names); err != nil {
		return err
	}
	n.claims.Lock()
	err = errors.Join(to.guests.store(to, g.vmid, conf), n.guests.remove(n, g.vmid))
	n.claims.Unlock()
	if err != nil {
		return err
	}
	// From here on nothing may fail the migration: what stays is garbage on the source.
	if derr := errors.Join(n.engine.Destroy(ctx, g.vmid), n.freeVolumes(ctx, slices.Collect(maps.Keys(names))...)); derr != nil {
		n.log.Error("migrated guest left something", "vmid", g.vmid, "error", derr)
	}
	return nil
}

// renameVolumes puts the target's volume ids into a configuration.
func renameVolumes(n *Node, conf *guestconf.Config, names map[string]string) {
	rename := func(values map[string]string) {
		for _, v := range guestVolumes(values, true) {
			if to, ok := names[v.volid]; ok {
				if isUnused(v.key) {
					values[v.key] = to
				} else {
					values[v.key] = n.withVolume(v, to)
				}
			}
		}
	}
	rename(conf.Values)
	rename(conf.Pending)
	for _, s := range conf.Snapshots {
		rename(s.Values)
	}
}

// sendFiles copies root file system and volumes from engine to engine. Snapshots of the
// files stay behind where the storage is shared: the target's engine has none of them.
func (n *Node) sendFiles(ctx context.Context, g *guestFile, to *Node, conf *guestconf.Config, names map[string]string) error {
	spec := engineGuest(g.vmid, conf.Values)
	err := pipe(func(w io.Writer) error { return n.engine.Dump(ctx, g.vmid, w) },
		func(r io.Reader) error { return to.engine.Restore(ctx, spec, r) })
	if err != nil {
		return err
	}
	for _, volid := range mountedVolumes(g.conf.Values) {
		name := volid
		if renamed, ok := names[volid]; ok {
			name = renamed
		}
		err := pipe(func(w io.Writer) error { return n.engine.DumpVolume(ctx, volid, spec.Unprivileged, w) },
			func(r io.Reader) error { return to.engine.RestoreVolume(ctx, name, spec.Unprivileged, r) })
		if err != nil {
			return err
		}
	}
	return nil
}

// pipe runs writer and reader against each other and returns the first cause.
func pipe(write func(io.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := write(w)
		_ = w.CloseWithError(err) // never fails; nil is io.EOF
		done <- err
	}()
	rerr := read(r)
	_ = r.CloseWithError(rerr)
	if werr := <-done; werr != nil && !errors.Is(werr, io.ErrClosedPipe) {
		return errors.Join(werr, rerr)
	}
	return rerr
}
