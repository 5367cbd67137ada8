package proxmox

import "context"

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
	StopTask(ctx context.Context, node string, upid UPID) error
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
)
