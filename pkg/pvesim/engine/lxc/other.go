//go:build !linux

package lxc

import (
	"errors"
	"fmt"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// Engine exists on Linux only.
type Engine struct{ engine.Engine }

// New fails: containers need Linux.
func New(Config) (*Engine, error) {
	return nil, fmt.Errorf("lxc guests need Linux: %w", errors.ErrUnsupported)
}
