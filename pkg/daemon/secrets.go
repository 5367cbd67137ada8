package daemon

import (
	"context"
	"path/filepath"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
)

// keyFile is where, in the data directory, the key of sealed values is.
const keyFile = "secrets.key"

// sealingKeys finds or makes the key of sealed values. A daemon whose database has values
// that the key cannot open does not start: it would say of each Secret that it is lost.
func sealingKeys(ctx context.Context, cfg Config, st store.Store, reg *resource.Registry) (*seal.Keyring, error) {
	needed, err := apply.KeysInUse(reg, func(kind string) ([]resource.Object, error) {
		snap, err := st.List(ctx, kind, store.ListOptions{})
		return snap.Items, err
	})
	if err != nil {
		return nil, err
	}
	return seal.EnsureKeys(filepath.Join(cfg.DataDir, keyFile), needed)
}
