package proxmox

import (
	"context"
	"time"
)

// The roles are what a controller asks for, so that its tests need to fake no more
// than it uses. *Client plays all of them.

// ClusterReader observes nodes and, in one request, all guests.
type ClusterReader interface {
	Version(ctx context.Context) (Version, error)
	Permissions(ctx context.Context) (Permissions, error)
	ClusterStatus(ctx context.Context) ([]ClusterStatusEntry, error)
	ClusterResources(ctx context.Context, kind ResourceKind) ([]Resource, error)
	NextID(ctx context.Context, vmid int) (int, error)
	Nodes(ctx context.Context) ([]Node, error)
	NodeStatus(ctx context.Context, node string) (NodeStatus, error)
}

// GuestReader observes LXC guests, live.
type GuestReader interface {
	ListLXC(ctx context.Context, node string) ([]LXCStatus, error)
	LXCConfig(ctx context.Context, node string, vmid int) (LXCConfig, error)
	LXCPending(ctx context.Context, node string, vmid int) ([]PendingChange, error)
	LXCStatus(ctx context.Context, node string, vmid int) (LXCStatus, error)
	LXCInterfaces(ctx context.Context, node string, vmid int) ([]GuestInterface, error)
}

// GuestWriter makes, changes and destroys LXC guests.
type GuestWriter interface {
	CreateLXC(ctx context.Context, node string, c LXCCreate) (UPID, error)
	UpdateLXC(ctx context.Context, node string, vmid int, u LXCUpdate) error
	ResizeLXC(ctx context.Context, node string, vmid int, disk, size string) (UPID, error)
	DeleteLXC(ctx context.Context, node string, vmid int, d LXCDelete) (UPID, error)
}

// PowerController starts and stops LXC guests.
type PowerController interface {
	StartLXC(ctx context.Context, node string, vmid int) (UPID, error)
	StopLXC(ctx context.Context, node string, vmid int) (UPID, error)
	ShutdownLXC(ctx context.Context, node string, vmid int, s Shutdown) (UPID, error)
	RebootLXC(ctx context.Context, node string, vmid int, s Shutdown) (UPID, error)
}

// NetworkAdmin stages and applies changes of a node's network configuration. The
// staging area is shared with everybody: see [Network.Changes].
type NetworkAdmin interface {
	ListNetwork(ctx context.Context, node string) (Network, error)
	CreateNetwork(ctx context.Context, node string, i InterfaceSpec) error
	UpdateNetwork(ctx context.Context, node string, i InterfaceSpec) error
	DeleteNetwork(ctx context.Context, node, iface string) error
	ReloadNetwork(ctx context.Context, node string) (UPID, error)
	RevertNetwork(ctx context.Context, node string) error
}

// StorageReader observes storages and what is on them.
type StorageReader interface {
	ListStorage(ctx context.Context, node, content string) ([]Storage, error)
	StorageContent(ctx context.Context, node, storage, content string) ([]Volid, error)
	ListTemplates(ctx context.Context, node string) ([]ApplianceTemplate, error)
}

// TemplateDownloader fetches a container template that Proxmox knows of.
type TemplateDownloader interface {
	DownloadTemplate(ctx context.Context, node, storage, template string) (UPID, error)
}

// TaskWaiter follows tasks to their end.
type TaskWaiter interface {
	WaitTask(ctx context.Context, node string, upid UPID) (TaskStatus, error)
	TaskStatus(ctx context.Context, node string, upid UPID) (TaskStatus, error)
	TaskLog(ctx context.Context, node string, upid UPID, start, limit int) (TaskLog, error)
}

// TaskAdmin lists and aborts tasks.
type TaskAdmin interface {
	Tasks(ctx context.Context, node string, f TaskFilter) ([]TaskListEntry, error)
	ClusterTasks(ctx context.Context) ([]TaskListEntry, error)
	StopTask(ctx context.Context, node string, upid UPID) error
}

// AccessReader looks into who may do what, for diagnosis.
type AccessReader interface {
	PermissionsOn(ctx context.Context, path, userid string) (Permissions, error)
	Users(ctx context.Context) ([]User, error)
	UserTokens(ctx context.Context, userid string) ([]APIToken, error)
	ACL(ctx context.Context) ([]ACLEntry, error)
	RolePrivileges(ctx context.Context, role string) ([]string, error)
}

// GuestMover copies guests and moves them, or parts of them.
type GuestMover interface {
	CloneLXC(ctx context.Context, node string, vmid int, l LXCClone) (UPID, error)
	MigrateLXC(ctx context.Context, node string, vmid int, m LXCMigrate) (UPID, error)
	TemplateLXC(ctx context.Context, node string, vmid int) error
	MoveVolumeLXC(ctx context.Context, node string, vmid int, m VolumeMove) (UPID, error)
	HasFeature(ctx context.Context, node string, vmid int, f Feature) (bool, error)
	LXCConfigNow(ctx context.Context, node string, vmid int) (LXCConfig, error)
}

// Snapshotter keeps states of a guest and goes back to them.
type Snapshotter interface {
	Snapshots(ctx context.Context, node string, vmid int) ([]Snapshot, error)
	CreateSnapshot(ctx context.Context, node string, vmid int, name, description string) (UPID, error)
	RollbackSnapshot(ctx context.Context, node string, vmid int, name string, start bool) (UPID, error)
	DeleteSnapshot(ctx context.Context, node string, vmid int, name string, force bool) (UPID, error)
}

// BackupAdmin makes, lists, marks and removes backups, and makes guests of them.
type BackupAdmin interface {
	Vzdump(ctx context.Context, node string, v Vzdump) (UPID, error)
	Backups(ctx context.Context, node, storage string, vmid int) ([]Volid, error)
	BackupConfig(ctx context.Context, node, volid string) (string, error)
	RestoreLXC(ctx context.Context, node string, l LXCRestore) (UPID, error)
	UpdateVolume(ctx context.Context, node, volid string, v VolumeNotes) error
	DeleteVolume(ctx context.Context, node, volid string) (UPID, error)
}

// Inspector looks closer at nodes and storages.
type Inspector interface {
	Capabilities(ctx context.Context, node string) (Capabilities, error)
	Certificates(ctx context.Context, node string) ([]Certificate, error)
	NodeTime(ctx context.Context, node string) (time.Time, error)
	ClusterOptions(ctx context.Context) (ClusterOptions, error)
	StorageStatus(ctx context.Context, node, storage string) (Storage, error)
	StorageDefinitions(ctx context.Context) ([]StorageDefinition, error)
	ThinPools(ctx context.Context, node string) ([]ThinPool, error)
}

// ImageFetcher has a node fetch templates from anywhere.
type ImageFetcher interface {
	DownloadURL(ctx context.Context, node, storage string, d Download) (UPID, error)
	OCITags(ctx context.Context, node, repository string) ([]string, error)
	PullOCI(ctx context.Context, node, storage, reference, filename string) (UPID, error)
}

// SDNReader observes the software-defined network.
type SDNReader interface {
	SDNZones(ctx context.Context, v SDNView) ([]SDNZone, error)
	SDNVNets(ctx context.Context, v SDNView) ([]SDNVNet, error)
	SDNSubnets(ctx context.Context, vnet string, v SDNView) ([]SDNSubnet, error)
	SDNControllers(ctx context.Context, v SDNView) ([]SDNController, error)
	SDNZone(ctx context.Context, zone string) (SDNZone, error)
	SDNChanges(ctx context.Context) ([]SDNChange, error)
}

// SDNNodeReader observes what single nodes made of it.
type SDNNodeReader interface {
	NodeSDNZones(ctx context.Context, node string) ([]NodeSDNZone, error)
	NodeSDNVNets(ctx context.Context, node, zone string) ([]NodeSDNVNet, error)
}

// SDNAdmin stages changes of the software-defined network and applies them.
type SDNAdmin interface {
	CreateSDNZone(ctx context.Context, z SDNZone) error
	UpdateSDNZone(ctx context.Context, zone string, u SDNUpdate) error
	DeleteSDNZone(ctx context.Context, zone string) error
	CreateSDNVNet(ctx context.Context, v SDNVNet) error
	UpdateSDNVNet(ctx context.Context, vnet string, u SDNUpdate) error
	DeleteSDNVNet(ctx context.Context, vnet string) error
	ApplySDN(ctx context.Context) (UPID, error)
}

// SDNSubnetAdmin stages changes of subnets.
type SDNSubnetAdmin interface {
	CreateSDNSubnet(ctx context.Context, s SDNSubnet) error
	DeleteSDNSubnet(ctx context.Context, vnet, id string) error
}

// FirewallAdmin reads and writes the firewall of guests, and the cluster's switch.
type FirewallAdmin interface {
	ClusterFirewall(ctx context.Context) (ClusterFirewall, error)
	SetClusterFirewall(ctx context.Context, f ClusterFirewall) error
	GuestFirewall(ctx context.Context, node string, vmid int) (GuestFirewall, error)
	SetGuestFirewall(ctx context.Context, node string, vmid int, f GuestFirewall) error
	GuestRules(ctx context.Context, node string, vmid int) ([]FirewallRule, error)
	AddGuestRule(ctx context.Context, node string, vmid int, f FirewallRule) error
	DeleteGuestRule(ctx context.Context, node string, vmid, pos int, digest string) error
}

// PoolAdmin reads and writes resource pools.
type PoolAdmin interface {
	Pools(ctx context.Context) ([]Pool, error)
	Pool(ctx context.Context, id string) (Pool, error)
	CreatePool(ctx context.Context, id, comment string) error
	UpdatePool(ctx context.Context, id string, u PoolUpdate) error
	DeletePool(ctx context.Context, id string) error
}

// HAReader observes high availability.
type HAReader interface {
	HAStatus(ctx context.Context) ([]HAStatusEntry, error)
	HAResources(ctx context.Context) ([]HAResource, error)
}

// HistoryReader reads figures of the past.
type HistoryReader interface {
	LXCSamples(ctx context.Context, node string, vmid int, over Timeframe) ([]Sample, error)
	NodeSamples(ctx context.Context, node string, over Timeframe) ([]Sample, error)
	StorageSamples(ctx context.Context, node, storage string, over Timeframe) ([]Sample, error)
}

// ConsoleOpener opens consoles of guests.
type ConsoleOpener interface {
	Termproxy(ctx context.Context, node string, vmid int) (ConsoleTicket, error)
	VNCProxy(ctx context.Context, node string, vmid int) (ConsoleTicket, error)
	DialConsole(ctx context.Context, node string, vmid int, t ConsoleTicket) (*Console, error)
}

var (
	_ ClusterReader      = (*Client)(nil)
	_ GuestReader        = (*Client)(nil)
	_ GuestWriter        = (*Client)(nil)
	_ PowerController    = (*Client)(nil)
	_ NetworkAdmin       = (*Client)(nil)
	_ StorageReader      = (*Client)(nil)
	_ TemplateDownloader = (*Client)(nil)
	_ TaskWaiter         = (*Client)(nil)
	_ TaskAdmin          = (*Client)(nil)
	_ AccessReader       = (*Client)(nil)
	_ GuestMover         = (*Client)(nil)
	_ Snapshotter        = (*Client)(nil)
	_ BackupAdmin        = (*Client)(nil)
	_ Inspector          = (*Client)(nil)
	_ ImageFetcher       = (*Client)(nil)
	_ SDNReader          = (*Client)(nil)
	_ SDNNodeReader      = (*Client)(nil)
	_ SDNAdmin           = (*Client)(nil)
	_ SDNSubnetAdmin     = (*Client)(nil)
	_ FirewallAdmin      = (*Client)(nil)
	_ PoolAdmin          = (*Client)(nil)
	_ HAReader           = (*Client)(nil)
	_ HistoryReader      = (*Client)(nil)
	_ ConsoleOpener      = (*Client)(nil)
)
