package pvesim

import (
	"crypto/sha1" //nolint:gosec // the digest of the real API
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// storageConfig is what storage.cfg says: the storages of the cluster. storages.json
// keeps it.
type storageConfig struct {
	file string
	mu   sync.RWMutex
	list []Storage
}

// open reads the file; without one the storages are those of the configuration.
func (s *storageConfig) open(file string, seed []Storage) error {
	s.file = file
	found, err := readJSON(file, &s.list)
	if err != nil || found {
		return err
	}
	for _, st := range seed {
		s.list = append(s.list, st.complete())
	}
	return nil // written with the first change, so that a changed configuration counts until then
}

// complete adds the options that an installation gives a storage.
func (s Storage) complete() Storage {
	if s.Options != nil {
		return s
	}
	switch s.Type {
	case "dir":
		s.Options = map[string]string{"path": "/mnt/" + s.ID}
		if s.ID == "local" {
			s.Options = map[string]string{"path": "/var/lib/vz", "prune-backups": "keep-all=1"}
		}
	case "lvmthin":
		s.Options = map[string]string{"vgname": "pve", "thinpool": "data"}
	case "zfspool":
		s.Options = map[string]string{"pool": "rpool/data", "sparse": "1"}
	}
	return s
}

// all returns the storages.
func (s *storageConfig) all() []Storage {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.list)
}

// get returns one storage.
func (s *storageConfig) get(id string) (Storage, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, st := range s.list {
		if st.ID == id {
			return st, true
		}
	}
	return Storage{}, false
}

// change runs fn on a copy of the list and keeps what it returns.
func (s *storageConfig) change(fn func([]Storage) ([]Storage, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := fn(slices.Clone(s.list))
	if err != nil {
		return err
	}
	if err := writeJSON(s.file, next); err != nil {
		return err
	}
	s.list = next
	return nil
}

func digestOfStorages(list []Storage) string {
	raw, _ := json.Marshal(list) // plain data
	sum := sha1.Sum(raw)         //nolint:gosec // see above
	return hex.EncodeToString(sum[:])
}

// on reports whether the storage may be used on a node.
func (s Storage) on(node string) bool { return len(s.Nodes) == 0 || slices.Contains(s.Nodes, node) }

// path is where a storage of files is mounted, "" for others.
func (s Storage) path() string { return s.Options["path"] }

// storagePlugin is a type of storage: what it may hold, first the default, and its
// options (plugindata and options of PVE::Storage::*Plugin).
type storagePlugin struct {
	content  []string
	fallback []string
	options  sectionType
	shared   bool
}

var (
	fileContent  = []string{"images", "rootdir", "vztmpl", "iso", "backup", "snippets", "none", "import"}
	blockContent = []string{"images", "rootdir"}
	common       = []string{"nodes", "disable", "content", "bwlimit"}
	files        = append([]string{"content-dirs", "prune-backups", "max-protected-backups", "format", "mkdir", "create-base-path", "create-subdirs", "preallocation", "=snapshot-as-volume-chain"}, common...)
)

var storagePlugins = map[string]storagePlugin{
	"dir":     {fileContent, blockContent, options(append([]string{"=!path", "shared", "is_mountpoint"}, files...)...), false},
	"btrfs":   {fileContent, blockContent, options(append([]string{"=!path", "shared", "is_mountpoint", "nocow"}, files...)...), false},
	"nfs":     {fileContent, []string{"images"}, options(append([]string{"=path", "=!server", "=!export", "options"}, files...)...), true},
	"cifs":    {fileContent, []string{"images"}, options(append([]string{"=path", "=!server", "=!share", "username", "password", "domain", "smbversion", "subdir", "options"}, files...)...), true},
	"lvm":     {blockContent, []string{"images"}, options(append([]string{"=!vgname", "=base", "shared", "saferemove", "saferemove_throughput", "tagged_only", "snapshot-as-volume-chain"}, common...)...), false},
	"lvmthin": {blockContent, blockContent, options(append([]string{"=!vgname", "=!thinpool"}, common...)...), false},
	"zfspool": {blockContent, blockContent, options(append([]string{"=!pool", "blocksize", "sparse", "mountpoint"}, common...)...), false},
}

// contentOf reads a list of content types and drops what the type of storage cannot
// hold.
func (p storagePlugin) contentOf(list string) []string {
	var out []string
	for _, kind := range pveschema.SplitList(list) {
		if slices.Contains(p.content, kind) && !slices.Contains(out, kind) {
			out = append(out, kind)
		}
	}
	if out == nil {
		return []string{"none"}
	}
	return out
}

// apply sets options of a storage.
func (s Storage) apply(p storagePlugin, set map[string]string, remove []string) Storage {
	next := s
	next.Options = map[string]string{}
	for key, v := range s.Options {
		next.Options[key] = v
	}
	for key, v := range set {
		switch key {
		case "content":
			next.Content = p.contentOf(v)
		case "nodes":
			next.Nodes = pveschema.SplitList(v)
		case "disable":
			next.Disabled = v == "1"
		case "shared":
			next.Shared = v == "1"
		default:
			next.Options[key] = v
		}
	}
	for _, key := range remove {
		switch key {
		case "content":
			next.Content = p.fallback
		case "nodes":
			next.Nodes = nil
		case "disable":
			next.Disabled = false
		case "shared":
			next.Shared = false
		default:
			delete(next.Options, key)
		}
	}
	return next
}

// confRow is a storage as its configuration is shown.
func (s Storage) confRow(digest string) map[string]any {
	row := map[string]any{"storage": s.ID, "type": s.Type, "content": strings.Join(s.Content, ","), "digest": digest}
	for key, v := range s.Options {
		row[key] = v
	}
	if s.Shared {
		row["shared"] = 1
	}
	if s.Disabled {
		row["disable"] = 1
	}
	if len(s.Nodes) > 0 {
		row["nodes"] = strings.Join(s.Nodes, ",")
	}
	return row
}
