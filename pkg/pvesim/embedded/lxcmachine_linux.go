package embedded

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/lxc"
)

// newLXCMachine brings up the modelled uplink and the engine.
func newLXCMachine(a childArgs, log *slog.Logger) (*machine, error) {
	up, err := newUplink(uplinkConfig{
		Dir: filepath.Join(nodeDir(a.DataDir), "uplink"), Repo: filepath.Join(a.CacheDir, "repo"),
		ID: nodeID(a.DataDir), Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("make uplink: %w", err)
	}
	e, err := lxc.New(lxc.Config{
		Dir: guestsDir, TemplateDir: filepath.Join(a.CacheDir, "templates"), RootfsDir: filepath.Join(a.CacheDir, "rootfs"),
		ResolvConf: resolvConf, ID: nodeID(a.DataDir), Log: log,
	})
	if err != nil {
		up.close()
		return nil, fmt.Errorf("open guests: %w", err)
	}
	return &machine{engine: e, lxcPath: guestsDir, close: func() { _ = e.Close(); up.close() }}, nil
}
