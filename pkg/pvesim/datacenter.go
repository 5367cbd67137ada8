package pvesim

import (
	"sync/atomic"

	"github.com/proximity-pve/proximity/pkg/pvesim/firewall"
	"github.com/proximity-pve/proximity/pkg/pvesim/sdn"
)

// datacenter is what all nodes share beside users and guests.
type datacenter struct {
	firewall *firewall.Store
	storages storageConfig
	sdn      *sdn.Store
	ha       haConfig
	book     clusterLogBook
	// quorumLost is set by a fault.
	quorumLost atomic.Bool
}

// open reads everything below dir.
func (d *datacenter) open(path func(...string) string, cfg Config) (err error) {
	if err = d.storages.open(path("storages.json"), cfg.Storages); err != nil {
		return err
	}
	if err = d.ha.open(path("ha.json")); err != nil {
		return err
	}
	networks := path("sdn.json")
	if d.sdn, err = sdn.Open(networks, func(b []byte) error { return writeFile(networks, b, 0o600) }); err != nil {
		return err
	}
	file := path("firewall.json")
	d.firewall, err = firewall.Open(file, func(b []byte) error { return writeFile(file, b, 0o600) })
	return err
}
