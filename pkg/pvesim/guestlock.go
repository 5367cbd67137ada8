package pvesim

import (
	"context"

	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
)

// edit runs fn on a guest's configuration under its file lock, whatever its lock option
// says, and writes what fn made of it.
func (n *Node) edit(ctx context.Context, vmid int, fn func(*guestconf.Config) error) error {
	unlock, err := n.guests.lock(ctx, vmid, n.cfg.LockTimeout)
	if err != nil {
		return err
	}
	defer unlock()
	g, err := n.guests.load(n, vmid)
	if err != nil {
		return err
	}
	conf := g.conf.Clone()
	if err := fn(conf); err != nil {
		return err
	}
	return n.guests.store(n, vmid, conf)
}

// setLock puts the lock option on an unlocked guest and returns its configuration from
// before (PVE::AbstractConfig::set_lock).
func (n *Node) setLock(ctx context.Context, vmid int, lock string) (before *guestconf.Config, err error) {
	err = n.edit(ctx, vmid, func(conf *guestconf.Config) error {
		if err := checkLock(conf); err != nil {
			return err
		}
		before = conf.Clone()
		conf.Values["lock"] = lock
		return nil
	})
	return before, err
}

// removeLock takes that lock option away (PVE::AbstractConfig::remove_lock).
func (n *Node) removeLock(ctx context.Context, vmid int, lock string) error {
	return n.edit(ctx, vmid, func(conf *guestconf.Config) error {
		switch now := conf.Values["lock"]; now {
		case lock:
			delete(conf.Values, "lock")
			return nil
		case "":
			return die("no lock found trying to remove '%s'  lock", lock)
		default:
			return die("found lock '%s' trying to remove '%s' lock", now, lock)
		}
	})
}
