package embedded

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// state is node.json: what has to be known about a node from outside, across restarts
// of the daemon and of the node. The file is written before the node is used and is
// believed only as far as the running process confirms it.
type state struct {
	Instance string `json:"instance"`
	Engine   string `json:"engine"`
	// PID with Started (the kernel's start time of the process, in clock ticks since
	// boot) names a process even after numbers were used again. 0: not running.
	PID     int    `json:"pid"`
	Started uint64 `json:"started"`
	Ports   ports  `json:"ports"`
}

// ports are the loopback ports that were in use last.
type ports struct {
	API        int `json:"api"`
	SSH        int `json:"ssh"`
	Forward    int `json:"forward"`
	ForwardTLS int `json:"forwardTLS"`
}

func statePath(dataDir string) string { return filepath.Join(nodeDir(dataDir), "node.json") }

// readState returns the zero state when there is none. A file that can't be understood
// is treated the same: everything in it can be found again or chosen anew.
func readState(dataDir string) (state, error) {
	var s state
	text, err := os.ReadFile(statePath(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read node state: %w", err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return state{}, nil
	}
	return s, nil
}

// writeState replaces node.json atomically.
func writeState(dataDir string, s state) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write node state: %w", err)
	}
	temp := statePath(dataDir) + ".new"
	if err := os.WriteFile(temp, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write node state: %w", err)
	}
	if err := os.Rename(temp, statePath(dataDir)); err != nil {
		return fmt.Errorf("write node state: %w", err)
	}
	return nil
}

func newInstance() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
