package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// capabilitiesFor is how long a node's capabilities are believed: upgrades happen while we
// run.
const capabilitiesFor = 5 * time.Minute

// Known is an answer that may be missing.
type Known string

// Answers.
const (
	Unknown Known = ""
	Yes     Known = "yes"
	No      Known = "no"
)

// Capabilities are what a node's version of Proxmox VE can do, where 7.4, 8.x and 9.x
// differ. Callers ask them and never compare versions.
type Capabilities struct {
	Version Version
	// GuestInterfaces: LXCInterfaces exists (8.1); GuestAddresses: it lists all addresses of
	// an interface (8.4).
	GuestInterfaces, GuestAddresses bool
	// SDN: the software-defined network is installed (8.1, or earlier by hand).
	SDN bool
	// BridgePrivilege: a guest's bridge needs SDN.Use on /sdn/zones/localnetwork/BRIDGE (8.0).
	BridgePrivilege bool
	// NetworkPrivilege: downloads need Sys.AccessNetwork, or Sys.Audit and Sys.Modify on / (8.2);
	// before, only the latter.
	NetworkPrivilege bool
	// CleanExec: pct exec knows --keep-env (8.2).
	CleanExec bool
	// OCI: images can be pulled, and guests have env, entrypoint and host-managed (9.1).
	OCI bool
	// PlainTar: a template may be an uncompressed .tar (9.0).
	PlainTar bool
	// HARules: affinity is set by rules (9.0); before, by groups.
	HARules bool
	// MonitorPrivilege: there is a privilege VM.Monitor (until 8.x). A role that names it is
	// refused later.
	MonitorPrivilege bool
	// ConsoleTokens: an API token can open a guest's console (pve-container 6.1.3).
	ConsoleTokens Known
}

// containerWithTokens is the pve-container that lets tokens open consoles.
var containerWithTokens = []int{6, 1, 3}

// CapabilitiesOf tells what a version can do. packages are installed Debian packages by
// name, as far as they are known.
func CapabilitiesOf(v Version, packages map[string]string) Capabilities {
	return Capabilities{
		Version:         v,
		GuestInterfaces: v.AtLeast(8, 1), GuestAddresses: v.AtLeast(8, 4),
		SDN: v.AtLeast(8, 1), BridgePrivilege: v.AtLeast(8, 0), NetworkPrivilege: v.AtLeast(8, 2),
		CleanExec: v.AtLeast(8, 2), OCI: v.AtLeast(9, 1), PlainTar: v.AtLeast(9, 0),
		HARules: v.AtLeast(9, 0), MonitorPrivilege: !v.AtLeast(9, 0),
		ConsoleTokens: consoleTokens(v, packages["pve-container"]),
	}
}

func consoleTokens(v Version, container string) Known {
	if container != "" {
		if numbersAtLeast(container, containerWithTokens) {
			return Yes
		}
		return No
	}
	switch {
	case !v.AtLeast(9, 0):
		return No
	case v.AtLeast(9, 2):
		return Yes
	}
	// Both are in the field as 9.1.
	return Unknown
}

// numbersAtLeast compares the numbers at the start of a Debian version, 6.1.10 or
// 6.1.10~rc1, with want.
func numbersAtLeast(version string, want []int) bool {
	parts := strings.FieldsFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	for i, w := range want {
		if i >= len(parts) {
			return false
		}
		n, err := strconv.Atoi(parts[i])
		if err != nil || n != w {
			return err == nil && n > w
		}
	}
	return true
}

// capabilityCache remembers what nodes can do.
type capabilityCache struct {
	mu    sync.Mutex
	nodes map[string]cachedCapabilities
}

type cachedCapabilities struct {
	Capabilities
	at time.Time
}

// Capabilities asks a node for its version and probes what that does not tell. What the
// caller may not ask stays unknown. Answers are kept for five minutes.
func (c *Client) Capabilities(ctx context.Context, node string) (Capabilities, error) {
	if err := checkNode(node); err != nil {
		return Capabilities{}, err
	}
	c.known.mu.Lock()
	old, ok := c.known.nodes[node]
	c.known.mu.Unlock()
	if ok && time.Since(old.at) < capabilitiesFor {
		return old.Capabilities, nil
	}
	v, err := fetch[Version](ctx, c, route(http.MethodGet, "/nodes/{node}/version", node))
	if err != nil {
		return Capabilities{}, fmt.Errorf("ask %s for its version: %w", node, err)
	}
	packages, err := c.packages(ctx, node)
	if err != nil && !isSettled(err) {
		return Capabilities{}, fmt.Errorf("ask %s for its packages: %w", node, err)
	}
	out := CapabilitiesOf(v, packages)
	if !out.SDN {
		// It may have been installed by hand.
		_, err := c.SDNZones(ctx, SDNStaged)
		out.SDN = err == nil
	}
	c.known.mu.Lock()
	defer c.known.mu.Unlock()
	if c.known.nodes == nil || len(c.known.nodes) >= maxGates {
		c.known.nodes = map[string]cachedCapabilities{}
	}
	c.known.nodes[node] = cachedCapabilities{out, time.Now()}
	return out, nil
}

// isSettled reports that the server answered, so that asking again would not help.
func isSettled(err error) bool {
	_, ok := asAPI(err)
	return ok && !IsUnknownOutcome(err) && !IsUnavailable(err)
}

// packages lists the node's installed packages that belong to Proxmox VE, by name; it needs
// Sys.Audit on the node.
func (c *Client) packages(ctx context.Context, node string) (map[string]string, error) {
	type row struct {
		Package string `json:"Package"`
		// Installed is OldVersion: Version is what an upgrade would bring.
		Installed string `json:"OldVersion"`
		State     string `json:"CurrentState"`
	}
	rows, err := fetch[[]row](ctx, c, route(http.MethodGet, "/nodes/{node}/apt/versions", node))
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(rows))
	for _, r := range rows {
		if r.State == "Installed" {
			out[r.Package] = r.Installed
		}
	}
	return out, nil
}
