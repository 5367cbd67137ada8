// Package doctor examines a connection to Proxmox VE: everything that a first
// installation gets wrong, each with the command that puts it right.
//
// # Contract
//
//   - Examine only looks: it changes nothing, on Proxmox or elsewhere.
//   - It answers the same list of checks in the same order every time. A check that
//     cannot be made, because one before it failed, is Skip and says which.
//   - Messages of checks that pass hold nothing that changes by itself (no free bytes, no
//     ages), so that a caller may compare two answers to see whether anything happened.
//   - Fix lines are commands for a root shell on a Proxmox node, unless they begin with
//     "#": those are for a person. They are never run by the daemon.
//   - An examination is bounded by its context, by maxNodes nodes and by one request at a
//     time.
//   - No secret is part of a check.
package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// Status is how a check ended.
type Status string

// How a check ends.
const (
	Pass Status = "Pass"
	// Warn: it works, but not as it should.
	Warn Status = "Warn"
	// Fail: something will not work until it is put right.
	Fail Status = "Fail"
	// Skip: it could not be looked at.
	Skip Status = "Skip"
)

// Names of the checks, in their order.
const (
	CheckAPI           = "API"
	CheckVersion       = "Version"
	CheckQuorum        = "Quorum"
	CheckPrivileges    = "Privileges"
	CheckNodes         = "Nodes"
	CheckClock         = "Clock"
	CheckGuestStorage  = "GuestStorage"
	CheckTemplates     = "Templates"
	CheckVMIDRange     = "VMIDRange"
	CheckUplink        = "Uplink"
	CheckNetworkStaged = "NetworkStaged"
	CheckSDN           = "SDN"
	CheckGuestAccess   = "GuestAccess"
	CheckHostAccess    = "HostAccess"
	CheckRootFeatures  = "RootFeatures"
	CheckIsolation     = "Isolation"
)

// Check is one finding.
type Check struct {
	Name    string
	Status  Status
	Message string
	// Fix is what to do, in order; empty when nothing needs to be done.
	Fix []string
}

// API is what an examination asks of Proxmox VE. *proxmox.Client has it.
type API interface {
	Version(ctx context.Context) (proxmox.Version, error)
	Permissions(ctx context.Context) (proxmox.Permissions, error)
	ClusterStatus(ctx context.Context) ([]proxmox.ClusterStatusEntry, error)
	ClusterResources(ctx context.Context, kind proxmox.ResourceKind) ([]proxmox.Resource, error)
	Nodes(ctx context.Context) ([]proxmox.Node, error)
	NodeTime(ctx context.Context, node string) (time.Time, error)
	Capabilities(ctx context.Context, node string) (proxmox.Capabilities, error)
	ListStorage(ctx context.Context, node, content string) ([]proxmox.Storage, error)
	StorageContent(ctx context.Context, node, storage, content string) ([]proxmox.Volid, error)
	ListTemplates(ctx context.Context, node string) ([]proxmox.ApplianceTemplate, error)
	ListNetwork(ctx context.Context, node string) (proxmox.Network, error)
	SDNChanges(ctx context.Context) ([]proxmox.SDNChange, error)
	LXCConfig(ctx context.Context, node string, vmid int) (proxmox.LXCConfig, error)
}

// Subject is what is examined.
type Subject struct {
	API API
	// Endpoint is the first URL of the API, Identity who we are there: user@realm!token or
	// user@realm.
	Endpoint, Identity string
	Access             Access
	Want               Want
}

// Access is the way into guests and onto nodes.
type Access struct {
	// Mode is ssh, local or console.
	Mode string
	// Probe reads a harmless file on the node; nil where there is no way onto nodes.
	Probe func(ctx context.Context, node string) error
	// Host is what ssh connects to for a node, without the port, for messages.
	Host func(node string) string
}

// Want is what the connection is to be good for.
type Want struct {
	// Node is where guests go that name none; empty: any.
	Node string
	// Storage is for root file systems, Templates are what guests are made from: package
	// prefixes or volume ids.
	Storage   string
	Templates []string
	// VMIDStart and VMIDEnd are the range for Apps, both inclusive.
	VMIDStart, VMIDEnd int
	// Uplink is the bridge that carries the appliances' uplink.
	Uplink string
	// Downloads says that templates are fetched from elsewhere than Proxmox's own index.
	Downloads bool
	// Bridges are the interface names of the declared Bridges.
	Bridges []string
	// Networks are the names of the zones and vnets of those that are made by SDN.
	Networks []string
}

// maxNodes bounds how many nodes are looked at one by one: what a Proxmox cluster has at
// most, by its own recommendation.
const maxNodes = 32

// examination is one run: what later checks know from earlier ones.
type examination struct {
	Subject
	checks []Check
	// version is set once the API answered.
	version *proxmox.Version
	// online are the nodes to look at one by one.
	online []string
	perms  proxmox.Permissions
}

// Examine makes all checks. ctx bounds it; what was not reached by then is Skip.
func Examine(ctx context.Context, s Subject) []Check {
	e := &examination{Subject: s}
	for _, c := range []struct {
		name  string
		needs bool // an answering API
		look  func(context.Context) Check
	}{
		{CheckAPI, false, e.api},
		{CheckVersion, true, e.supported},
		{CheckQuorum, true, e.quorum},
		{CheckPrivileges, true, e.privileges},
		{CheckNodes, true, e.nodes},
		{CheckClock, true, e.clock},
		{CheckGuestStorage, true, e.guestStorage},
		{CheckTemplates, true, e.templates},
		{CheckVMIDRange, true, e.vmidRange},
		{CheckUplink, true, e.uplink},
		{CheckNetworkStaged, true, e.networkStaged},
		{CheckSDN, true, e.sdn},
		{CheckGuestAccess, true, e.guestAccess},
		{CheckHostAccess, true, e.hostAccess},
		{CheckRootFeatures, false, e.rootFeatures},
		{CheckIsolation, true, e.isolation},
	} {
		var got Check
		switch {
		case ctx.Err() != nil:
			got = skip("there was no time left to look at it")
		case c.needs && e.version == nil:
			got = skip("the API does not answer; see the check %s", CheckAPI)
		default:
			got = c.look(ctx)
		}
		got.Name = c.name
		e.checks = append(e.checks, got)
	}
	return e.checks
}

// Worst returns the worst status among the checks; Skip counts as nothing, because its cause
// is a check of its own.
func Worst(checks []Check) Status {
	worst := Pass
	for _, c := range checks {
		switch {
		case c.Status == Fail:
			return Fail
		case c.Status == Warn:
			worst = Warn
		}
	}
	return worst
}

func pass(format string, args ...any) Check {
	return Check{Status: Pass, Message: fmt.Sprintf(format, args...)}
}

func skip(format string, args ...any) Check {
	return Check{Status: Skip, Message: fmt.Sprintf(format, args...)}
}

func warn(message string, fix ...string) Check {
	return Check{Status: Warn, Message: message, Fix: fix}
}

func fail(message string, fix ...string) Check {
	return Check{Status: Fail, Message: message, Fix: fix}
}

// unseen is the check that ended in an error of a request: a missing privilege is told by
// the check of privileges, everything else here.
func unseen(what string, err error) Check {
	if path, privilege := proxmox.MissingPrivilege(err); path != "" || privilege != "" {
		return skip("%s cannot be seen: %s is missing on %s; see the check %s", what, privilege, path, CheckPrivileges)
	}
	return fail(fmt.Sprintf("%s cannot be seen: %v", what, err), "# run the examination again; if it stays, look into journalctl -u pvedaemon -u pveproxy on the node")
}
