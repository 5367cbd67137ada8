package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Content types of storages.
const (
	ContentRootDir  = "rootdir" // volumes of LXC guests
	ContentTemplate = "vztmpl"  // container templates
	ContentBackup   = "backup"
)

// Storage is a row of GET /nodes/{node}/storage. Sizes are in bytes; all are 0 while the
// storage is offline (Active false).
type Storage struct {
	Storage string `json:"storage"`
	Type    string `json:"type"`    // dir, zfspool, lvmthin, ...
	Content string `json:"content"` // comma separated
	Enabled Bool   `json:"enabled"`
	Active  Bool   `json:"active"`
	Shared  Bool   `json:"shared"`
	Total   Int    `json:"total"`
	Used    Int    `json:"used"`
	Avail   Int    `json:"avail"`
}

// Holds reports whether the storage may hold that content type.
func (s Storage) Holds(content string) bool {
	return slices.Contains(strings.Split(s.Content, ","), content)
}

// ListStorage lists the node's enabled storages that may hold content ("" for any). What
// the caller has no Datastore right for is left out.
func (c *Client) ListStorage(ctx context.Context, node, content string) ([]Storage, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	r := route(http.MethodGet, "/nodes/{node}/storage", node).with("content", content).withBool("enabled", true)
	return fetch[[]Storage](ctx, c, r)
}

// Volid is a row of GET /nodes/{node}/storage/{storage}/content.
type Volid struct {
	Volid     string `json:"volid"` // STORAGE:vztmpl/NAME, STORAGE:100/vm-100-disk-0.raw, ...
	Content   string `json:"content"`
	Format    string `json:"format"`
	Size      Int    `json:"size"`
	Used      Int    `json:"used"`
	VMID      Int    `json:"vmid"`
	Parent    string `json:"parent"`
	CTime     Int    `json:"ctime"` // seconds of the epoch
	Notes     string `json:"notes"`
	Protected Bool   `json:"protected"`
}

// Name is the part of the volume id after storage and content type.
func (v Volid) Name() string {
	_, name, _ := strings.Cut(v.Volid, ":")
	return name[strings.LastIndexByte(name, '/')+1:]
}

// StorageContent lists what is on a storage, of one content type or of all ("").
func (c *Client) StorageContent(ctx context.Context, node, storage, content string) ([]Volid, error) {
	if err := checkStorage(node, storage); err != nil {
		return nil, err
	}
	r := route(http.MethodGet, "/nodes/{node}/storage/{storage}/content", node, storage)
	return fetch[[]Volid](ctx, c, r.with("content", content))
}

// ApplianceTemplate is a row of GET /nodes/{node}/aplinfo: a container template that the
// node's index offers for download.
type ApplianceTemplate struct {
	Template     string `json:"template"` // file name
	Package      string `json:"package"`  // name without version, e.g. debian-12-standard
	Version      string `json:"version"`
	OS           string `json:"os"`
	Section      string `json:"section"`
	Architecture string `json:"architecture"`
	Headline     string `json:"headline"`
	SHA512       string `json:"sha512sum"`
	Type         string `json:"type"`
}

// ListTemplates lists the node's cached index. It is refreshed daily or by pveam update
// on the node; the API cannot. Old versions vanish: resolve by Package.
func (c *Client) ListTemplates(ctx context.Context, node string) ([]ApplianceTemplate, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	return fetch[[]ApplianceTemplate](ctx, c, route(http.MethodGet, "/nodes/{node}/aplinfo", node))
}

// DownloadTemplate fetches a template of the index to a storage; it needs
// Datastore.AllocateTemplate. A file that is there already and intact is a success.
func (c *Client) DownloadTemplate(ctx context.Context, node, storage, template string) (UPID, error) {
	if err := checkStorage(node, storage); err != nil {
		return UPID{}, err
	}
	r := route(http.MethodPost, "/nodes/{node}/aplinfo", node).with("storage", storage).with("template", template)
	return launch(ctx, c, r)
}

// StorageStatus asks a node how one storage is.
func (c *Client) StorageStatus(ctx context.Context, node, storage string) (Storage, error) {
	if err := checkStorage(node, storage); err != nil {
		return Storage{}, err
	}
	s, err := fetch[Storage](ctx, c, route(http.MethodGet, "/nodes/{node}/storage/{storage}/status", node, storage))
	s.Storage = storage
	return s, err
}

// StorageDefinition is a row of GET /storage: a storage as the cluster defines it.
type StorageDefinition struct {
	Storage string `json:"storage"`
	Type    string `json:"type"`
	Content string `json:"content"` // comma separated
	Path    string `json:"path"`
	Nodes   string `json:"nodes"` // comma separated; "" is all
	Shared  Bool   `json:"shared"`
	Disable Bool   `json:"disable"`
	Prune   string `json:"prune-backups"`
	// VGName and ThinPool are of type lvmthin.
	VGName   string `json:"vgname"`
	ThinPool string `json:"thinpool"`
}

// ThinPool is an LVM thin pool of a node. Sizes are in bytes. One whose data or metadata is
// full makes all that is on it fail.
type ThinPool struct {
	VG           string `json:"vg"`
	LV           string `json:"lv"`
	Size         Int    `json:"lv_size"`
	Used         Int    `json:"used"`
	MetadataSize Int    `json:"metadata_size"`
	MetadataUsed Int    `json:"metadata_used"`
}

// ThinPools lists the thin pools of a node; it needs Sys.Audit on /.
func (c *Client) ThinPools(ctx context.Context, node string) ([]ThinPool, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	return fetch[[]ThinPool](ctx, c, route(http.MethodGet, "/nodes/{node}/disks/lvmthin", node))
}

// StorageDefinitions lists the storages that the caller may audit.
func (c *Client) StorageDefinitions(ctx context.Context) ([]StorageDefinition, error) {
	return fetch[[]StorageDefinition](ctx, c, route(http.MethodGet, "/storage"))
}

// Download says what to fetch from where.
type Download struct {
	URL      string
	Filename string // ends in .tar.gz, .tar.xz, .tar.zst or, on 9.x, .tar
	Content  string // ContentTemplate
	// Checksum and Algorithm (sha256, sha512, ...) make a present, intact file a success;
	// without them a present file fails the task.
	Checksum, Algorithm string
}

// DownloadURL has the node fetch a file from the internet; beside
// Datastore.AllocateTemplate it needs Sys.AccessNetwork on the node (or Sys.Audit and
// Sys.Modify on /).
func (c *Client) DownloadURL(ctx context.Context, node, storage string, d Download) (UPID, error) {
	if err := checkStorage(node, storage); err != nil {
		return UPID{}, err
	}
	r := route(http.MethodPost, "/nodes/{node}/storage/{storage}/download-url", node, storage).with("url", d.URL).
		with("filename", d.Filename).with("content", d.Content).with("checksum", d.Checksum).with("checksum-algorithm", d.Algorithm)
	return launch(ctx, c, r)
}

// DeleteVolume removes a backup, a template, or a volume that no guest refers to. The
// server does not check the latter: a stopped guest's volume goes just so. The task is
// zero when the server removed it at once; what does not exist is no error.
func (c *Client) DeleteVolume(ctx context.Context, node, volid string) (UPID, error) {
	if err := checkVolid(node, volid); err != nil {
		return UPID{}, err
	}
	storage, _, _ := strings.Cut(volid, ":")
	r := route(http.MethodDelete, "/nodes/{node}/storage/{storage}/content/{volume}", node, storage, volid)
	return fetch[UPID](ctx, c, r)
}

// VolumeNotes changes what is written beside a backup. A nil field is left as it is.
type VolumeNotes struct {
	Notes     *string
	Protected *bool // a protected backup is neither removed nor pruned
}

// UpdateVolume changes a backup's notes and protection.
func (c *Client) UpdateVolume(ctx context.Context, node, volid string, v VolumeNotes) error {
	if err := checkVolid(node, volid); err != nil {
		return err
	}
	storage, _, _ := strings.Cut(volid, ":")
	r := route(http.MethodPut, "/nodes/{node}/storage/{storage}/content/{volume}", node, storage, volid)
	if v.Notes != nil {
		r.params.Set("notes", *v.Notes)
	}
	if v.Protected != nil {
		r.params.Set("protected", formatBool(*v.Protected))
	}
	_, err := c.call(ctx, r, nil)
	return err
}

func checkVolid(node, volid string) error {
	storage, name, ok := strings.Cut(volid, ":")
	if !ok || name == "" || strings.ContainsAny(volid, " \t\r\n") {
		return fmt.Errorf("proxmox: %.80q is not a volume id", volid)
	}
	return checkStorage(node, storage)
}

func checkStorage(node, storage string) error {
	if !ValidStorageName(storage) {
		return fmt.Errorf("proxmox: %.80q is not a storage name", storage)
	}
	return checkNode(node)
}
