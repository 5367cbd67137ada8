package proxmox

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Volume is a rootfs or mp[n] of an LXC guest.
type Volume struct {
	// Source is STORAGE:GIB to have a volume made, or a volume id once it is.
	Source string
	// Path is where mp[n] is mounted in the guest; "" for rootfs.
	Path string
	// Size is in bytes, informational: grow a volume with ResizeLXC. 0 is unknown.
	Size int64
	// Backup says whether an mp[n] is part of backups. Proxmox's default is no.
	Backup   bool
	ReadOnly bool
	// Extra are the keys not named above, kept as they came.
	Extra PropertyString
}

// NewVolume asks for a new volume on the storage, of that many GiB.
func NewVolume(storage string, gib float64) Volume {
	return Volume{Source: storage + ":" + strconv.FormatFloat(gib, 'f', -1, 64)}
}

// ParseVolume reads the value of rootfs or mp[n].
func ParseVolume(s string) (Volume, error) {
	p, err := ParsePropertyString(s)
	if err != nil {
		return Volume{}, err
	}
	v := Volume{Source: p.Value(""), Path: p.Value("mp"), Backup: p.Bool("backup"), ReadOnly: p.Bool("ro")}
	if v.Source == "" {
		// "volume" is the long name of the default key.
		v.Source = p.Value("volume")
	}
	if size, ok := p.Get("size"); ok {
		if v.Size, err = ParseSize(size); err != nil {
			return Volume{}, err
		}
	}
	v.Extra = p.Without("", "volume", "mp", "size", "backup", "ro")
	return v, nil
}

// Storage is the storage's name, or "" for a bind mount.
func (v Volume) Storage() string {
	if strings.HasPrefix(v.Source, "/") {
		return ""
	}
	storage, _, ok := strings.Cut(v.Source, ":")
	if !ok {
		return ""
	}
	return storage
}

// String renders the value of rootfs or mp[n].
func (v Volume) String() string {
	p := PropertyString{{Key: "", Value: v.Source}}
	p = p.With("mp", v.Path)
	if v.Backup {
		p = p.With("backup", "1")
	}
	if v.ReadOnly {
		p = p.With("ro", "1")
	}
	if v.Size != 0 {
		p = p.With("size", FormatSize(v.Size))
	}
	for _, e := range v.Extra {
		p = p.With(e.Key, e.Value)
	}
	return p.String()
}

var sizePattern = regexp.MustCompile(`^(\d{1,16}(?:\.\d{1,15})?)([KMGT]?)$`)

const sizeUnits = "KMGT"

// ParseSize reads a size in bytes from the form of property strings: 8G, 512M, 1.5T,
// or plain bytes (pve-common, JSONSchema parse_size).
func ParseSize(s string) (int64, error) {
	m := sizePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("not a size: %.40q", s)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, fmt.Errorf("not a size: %w", err)
	}
	if m[2] != "" {
		n *= math.Pow(1024, float64(1+strings.Index(sizeUnits, m[2])))
	}
	if n >= 1<<53 {
		return 0, fmt.Errorf("size too large: %.40q", s)
	}
	return int64(n), nil
}

// FormatSize writes a size with the largest unit that divides it.
func FormatSize(bytes int64) string {
	unit := -1
	for unit+1 < len(sizeUnits) && bytes != 0 && bytes%1024 == 0 {
		bytes /= 1024
		unit++
	}
	if unit < 0 {
		return strconv.FormatInt(bytes, 10)
	}
	return strconv.FormatInt(bytes, 10) + sizeUnits[unit:unit+1]
}
