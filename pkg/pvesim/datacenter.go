package pvesim

import (
	"github.com/proximity-pve/proximity/pkg/pvesim/firewall"
)

// datacenter is what all nodes share beside users and guests.
type datacenter struct {
	firewall *firewall.Store
	storages storageConfig
}

// open reads everything below dir.
func (d *datacenter) open(path func(...string) string, cfg Config) (err error) {
	if err = d.storages.open(path("storages.json"), cfg.Storages); err != nil {
		return err
	}
	file := path("firewall.json")
	d.firewall, err = firewall.Open(file, func(b []byte) error { return writeFile(file, b, 0o600) })
	return err
}
