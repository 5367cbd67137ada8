package pvesim

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// volume is a disk image of a guest.
type volume struct {
	VMID  int   `json:"vmid"`
	Bytes int64 `json:"bytes"`
	CTime int64 `json:"ctime"`
}

// storageState is what storages hold, those of one node or those that all nodes see.
// storage.json and shared.json keep it.
type storageState struct {
	file string
	mu   sync.Mutex
	// Volumes by volume id.
	Volumes map[string]volume `json:"volumes"`
	// Hidden are templates that were deleted through the API. The files stay, because
	// several nodes may share the directory.
	Hidden []string `json:"hidden"`
	// fills are what others have on the storages.
	fills map[string]fill
}

// templateSuffixes are the archives that storage local shows, with their format names.
var templateSuffixes = map[string]string{".tar.zst": "tzst", ".tar.xz": "txz", ".tar.gz": "tgz", ".tar": "tar"}

func (s *storageState) open(file string) error {
	s.file, s.Volumes = file, map[string]volume{}
	_, err := readJSON(file, s)
	return err
}

// save writes the state; the caller holds the lock.
func (s *storageState) save() error { return writeJSON(s.file, s) }

// state is where the volumes of a storage are, as this node sees them.
func (n *Node) state(s Storage) *storageState {
	if s.Shared {
		return &n.shared
	}
	return &n.storage
}

// stateOf is state for a volume id; a storage that is gone had volumes of the node.
func (n *Node) stateOf(volid string) *storageState {
	id, _, _ := strings.Cut(volid, ":")
	s, _ := n.storageByID(id)
	return n.state(s)
}

// storageByID returns a configured storage.
func (n *Node) storageByID(id string) (Storage, bool) { return n.storages.get(id) }

// findStorage is storageByID with the real refusals, also of a storage that is disabled
// or not for this node (PVE::Storage, storage_check_enabled).
func (n *Node) findStorage(id string) (Storage, error) {
	s, ok := n.storageByID(id)
	switch {
	case !ok:
		return Storage{}, errNoStorage(id)
	case s.Disabled:
		return Storage{}, die("storage '%s' is disabled", id)
	case !s.on(n.name):
		return Storage{}, die("storage '%s' is not available on node '%s'", id, n.name)
	}
	return s, nil
}

// template is a file of the template directory.
type template struct {
	name, format string
	bytes, ctime int64
}

// templates lists what storage local offers as vztmpl, sorted by name.
func (n *Node) templates() []template {
	n.storage.mu.Lock()
	hidden := slices.Clone(n.storage.Hidden)
	n.storage.mu.Unlock()
	byName := map[string]template{}
	for _, dir := range []string{n.templateDir, n.templateCache()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // no directory, no templates
		}
		for _, e := range entries {
			st, err := os.Stat(dir + "/" + e.Name()) // follows links, unlike e.Info
			if err != nil || !st.Mode().IsRegular() || slices.Contains(hidden, e.Name()) {
				continue
			}
			for suffix, format := range templateSuffixes {
				if strings.HasSuffix(e.Name(), suffix) {
					byName[e.Name()] = template{e.Name(), format, st.Size(), st.ModTime().Unix()}
				}
			}
		}
	}
	out := slices.Collect(maps.Values(byName))
	slices.SortFunc(out, func(a, b template) int { return strings.Compare(a.name, b.name) })
	return out
}

// templateBytes is the size of a template's archive, 0 if there is none.
func (n *Node) templateBytes(name string) int64 {
	for _, t := range n.templates() {
		if t.name == name {
			return t.bytes
		}
	}
	return 0
}

func (n *Node) hasTemplate(name string) bool {
	return slices.ContainsFunc(n.templates(), func(t template) bool { return t.name == name })
}

// allocate makes a volume for a guest under the next free name and returns its id.
func (n *Node) allocate(s Storage, vmid int, bytes int64) (string, error) {
	st := n.state(s)
	st.mu.Lock()
	defer st.mu.Unlock()
	for i := 0; ; i++ {
		id := volumeID(s, vmid, i)
		if _, taken := st.Volumes[id]; taken {
			continue
		}
		st.Volumes[id] = volume{VMID: vmid, Bytes: bytes, CTime: time.Now().Unix()}
		if err := st.save(); err != nil {
			delete(st.Volumes, id)
			return "", err
		}
		return id, nil
	}
}

// volumeID names the i-th disk of a guest as the storage's plugin does.
func volumeID(s Storage, vmid, i int) string {
	if s.Type == "dir" {
		return fmt.Sprintf("%s:%d/vm-%d-disk-%d.raw", s.ID, vmid, vmid, i)
	}
	return fmt.Sprintf("%s:vm-%d-disk-%d", s.ID, vmid, i)
}

// release removes volumes; those that do not exist are no error.
func (n *Node) release(ids ...string) error {
	var err error
	for _, id := range ids {
		st := n.stateOf(id)
		st.mu.Lock()
		delete(st.Volumes, id)
		err = errors.Join(err, st.save())
		st.mu.Unlock()
	}
	return err
}

// setVolumeSize records a grown disk.
func (n *Node) setVolumeSize(id string, bytes int64) error {
	st := n.stateOf(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	v := st.Volumes[id]
	v.Bytes = bytes
	st.Volumes[id] = v
	return st.save()
}

// baseUsage is what the system itself takes on a storage of type dir.
const baseUsage = 4 << 30

// usage computes how full a storage is: thin volumes count a quarter of their size.
func (n *Node) usage(s Storage) (used int64) {
	if s.Type == "dir" {
		used = baseUsage
		for _, t := range n.templates() {
			used += t.bytes
		}
	}
	st := n.state(s)
	st.mu.Lock()
	defer st.mu.Unlock()
	used += st.fills[s.ID].bytes
	for id, v := range st.Volumes {
		if strings.HasPrefix(id, s.ID+":") {
			used += v.Bytes / 4
		}
	}
	return min(used, s.Bytes)
}

// parseSize reads a size like 8G, 512M or 1.5G into bytes.
func parseSize(s string) (int64, error) {
	unit := int64(1)
	if s != "" {
		if i := strings.IndexByte("KMGT", s[len(s)-1]); i >= 0 {
			unit <<= 10 * (i + 1)
			s = s[:len(s)-1]
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || f*float64(unit) > 1<<60 {
		return 0, fmt.Errorf("unable to parse size '%s'", s)
	}
	return int64(f * float64(unit)), nil
}

// formatSize writes bytes in the largest unit that divides them, as in size=8G.
func formatSize(bytes int64) string {
	for _, u := range []struct {
		name string
		unit int64
	}{{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}} {
		if bytes > 0 && bytes%u.unit == 0 {
			return strconv.FormatInt(bytes/u.unit, 10) + u.name
		}
	}
	return strconv.FormatInt(bytes, 10)
}
