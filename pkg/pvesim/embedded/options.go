package embedded

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// DefaultCacheDir is where `make setup` puts templates, packages and tools, unless
// PROXIMITY_CACHE names another place.
const DefaultCacheDir = "/var/cache/proximity"

// Engines by name; EngineAuto takes lxc where it works.
const (
	EngineAuto = "auto"
	EngineLXC  = "lxc"
	EngineMem  = "mem"
)

// nodeName is the name of the one node, as a Proxmox VE installation suggests it.
const nodeName = "pve"

// Options say which node Ensure shall find or start.
type Options struct {
	// DataDir is the daemon's data directory; the node keeps everything in DataDir/node.
	DataDir string
	// CacheDir holds what `make setup` made; "" is $PROXIMITY_CACHE or DefaultCacheDir.
	CacheDir string
	// Executable is started with "embedded-node" as its first argument and must then call
	// NodeMain with the arguments behind it; "" is the calling program.
	Executable string
	// Engine is EngineAuto (also ""), EngineLXC or EngineMem. Auto stays with the engine
	// that the data directory was used with before.
	Engine string
	// ForwardAddr and ForwardTLSAddr are the loopback addresses (host:port) from which
	// HTTP and HTTPS go to the appliance. Port 0 or "" is any; a port that is in use is
	// replaced by a free one.
	ForwardAddr, ForwardTLSAddr string
	// Log tells what Ensure does; nil discards it.
	Log *slog.Logger
}

// Info is what a running node tells about itself.
type Info struct {
	Instance     string `json:"instance"`     // differs from start to start
	Engine       string `json:"engine"`       // "lxc" or "mem"
	EngineReason string `json:"engineReason"` // why not lxc, one sentence; "" if lxc

	// PID is init (lxc) or the server (mem) as the host numbers it: `nsenter -t PID -n -m -p`
	// enters the node. LXCPath is lxc's -P in there; "" for mem.
	PID     int    `json:"pid"`
	LXCPath string `json:"lxcPath"`

	APIURL      string `json:"apiURL"` // https://127.0.0.1:PORT
	Fingerprint string `json:"fingerprint"`
	TokenID     string `json:"tokenID"`
	TokenSecret string `json:"tokenSecret"`

	SSHAddr           string `json:"sshAddr"`
	SSHUser           string `json:"sshUser"`
	SSHPrivateKeyPath string `json:"sshPrivateKeyPath"`
	SSHHostKey        string `json:"sshHostKey"` // authorized_keys line

	Forward    string `json:"forward"`    // 127.0.0.1:PORT, HTTP
	ForwardTLS string `json:"forwardTLS"` // 127.0.0.1:PORT, HTTPS
}

// withDefaults checks options and makes every path absolute and free of links, because
// the node's identity follows from the data directory's path.
func (o Options) withDefaults() (Options, error) {
	if o.DataDir == "" {
		return o, errors.New("no data directory given")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	if err = os.MkdirAll(nodeDir(o.DataDir), 0o700); err != nil {
		return o, fmt.Errorf("make data directory: %w", err)
	}
	if o.DataDir, err = realPath(o.DataDir); err != nil {
		return o, fmt.Errorf("find data directory: %w", err)
	}
	o.CacheDir = cacheDir(o.CacheDir)
	if o.CacheDir, err = filepath.Abs(o.CacheDir); err != nil {
		return o, fmt.Errorf("find cache directory: %w", err)
	}
	if o.Executable == "" {
		if o.Executable, err = os.Executable(); err != nil {
			return o, fmt.Errorf("find own executable: %w", err)
		}
	}
	o.Engine = cmp.Or(o.Engine, EngineAuto)
	switch o.Engine {
	case EngineAuto, EngineLXC, EngineMem:
	default:
		return o, fmt.Errorf("engine %q is not one of auto, lxc, mem", o.Engine)
	}
	return o, nil
}

func cacheDir(given string) string {
	return cmp.Or(given, os.Getenv("PROXIMITY_CACHE"), DefaultCacheDir)
}

func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// nodeDir is the node's part of a data directory.
func nodeDir(dataDir string) string { return filepath.Join(dataDir, "node") }

// nodeID tells nodes of different data directories apart in names that are global on
// the machine.
func nodeID(dataDir string) string {
	sum := sha256.Sum256([]byte(dataDir))
	return hex.EncodeToString(sum[:4])
}

// groupName is the node's directory in each control group hierarchy.
func groupName(dataDir string) string { return "proximity-" + nodeID(dataDir) }

// below tells whether a path is dir or inside it.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
