package pvesim

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// backupFile is one backup of a guest. Notes and protection are files beside it, as on a
// real storage.
type backupFile struct {
	name   string // vzdump-lxc-100-2026_11_23-09_25_42.tar.zst
	format string // tar.zst
	vmid   int
	ctime  int64
	bytes  int64
	file   string // on this machine
}

// backupRE is the name of a container's backup; the compression may be missing.
var backupRE = regexp.MustCompile(`^vzdump-lxc-([1-9][0-9]{2,8})-(\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d)\.(tar(?:\.(?:gz|lzo|zst))?)$`)

const backupTime = "2006_01_02-15_04_05"

// backupDir is where a storage keeps backups: the cluster's directory if it is shared.
func (n *Node) backupDir(s Storage) string {
	if s.Shared {
		return n.cluster.path("dump", s.ID)
	}
	return n.path("dump", s.ID)
}

// backups lists the backups on a storage, oldest first.
func (n *Node) backups(s Storage) []backupFile {
	dir := n.backupDir(s)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // no directory, no backups
	}
	var out []backupFile
	for _, e := range entries {
		m := backupRE.FindStringSubmatch(e.Name())
		st, err := e.Info()
		if m == nil || err != nil {
			continue
		}
		vmid, _ := strconv.Atoi(m[1]) // digits
		b := backupFile{name: e.Name(), format: m[3], vmid: vmid, ctime: st.ModTime().Unix(), bytes: st.Size(), file: filepath.Join(dir, e.Name())}
		if at, err := time.ParseInLocation(backupTime, m[2], time.Local); err == nil {
			b.ctime = at.Unix()
		}
		out = append(out, b)
	}
	slices.SortStableFunc(out, func(a, b backupFile) int { return int(a.ctime - b.ctime) })
	return out
}

// backup finds one by its volume id.
func (n *Node) backup(volid string) (backupFile, bool) {
	id, name, _ := strings.Cut(volid, ":")
	s, ok := n.storageByID(id)
	if !ok {
		return backupFile{}, false
	}
	for _, b := range n.backups(s) {
		if "backup/"+b.name == name {
			return b, true
		}
	}
	return backupFile{}, false
}

func (b backupFile) notes() string {
	raw, _ := os.ReadFile(b.file + ".notes") // no file, no notes
	return string(raw)
}

func (b backupFile) setNotes(text string) error {
	if text == "" {
		return removeIfThere(b.file + ".notes")
	}
	return writeFile(b.file+".notes", []byte(text), 0o600)
}

func (b backupFile) protected() bool {
	_, err := os.Stat(b.file + ".protected")
	return err == nil
}

func (b backupFile) setProtected(on bool) error {
	if !on {
		return removeIfThere(b.file + ".protected")
	}
	return writeFile(b.file+".protected", nil, 0o600)
}

// errProtected is archive_remove of PVE::Storage.
func errProtected(volid string) error { return die("can't remove archive '%s' - protected", volid) }

func (b backupFile) remove() error {
	if b.protected() {
		return errProtected(b.file)
	}
	return errors.Join(os.Remove(b.file), removeIfThere(b.file+".notes"))
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// row is the backup in GET content.
func (b backupFile) row(storage string) map[string]any {
	row := map[string]any{
		"volid": storage + ":backup/" + b.name, "content": "backup", "format": b.format, "subtype": "lxc",
		"size": b.bytes, "ctime": b.ctime, "vmid": b.vmid,
	}
	if notes := b.notes(); notes != "" {
		row["notes"] = notes
	}
	if b.protected() {
		row["protected"] = 1
	}
	return row
}

// compressor wraps a writer by the format of the file. There is no lzo here: such files
// hold gzip.
func compressor(format string, w io.Writer) (io.WriteCloser, error) {
	switch format {
	case "tar":
		return nopCloser{w}, nil
	case "tar.zst":
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	default:
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// open reads the archive, whatever it is compressed with.
func (b backupFile) open() (*tar.Reader, func(), error) {
	f, err := os.Open(b.file)
	if err != nil {
		return nil, nil, err
	}
	r := bufio.NewReader(f)
	magic, _ := r.Peek(4) // shorter is no archive, which tar says
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
		return tar.NewReader(z), func() { _ = f.Close() }, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
		return tar.NewReader(z), func() { z.Close(); _ = f.Close() }, nil
	default:
		return tar.NewReader(r), func() { _ = f.Close() }, nil
	}
}

// Names in an archive that hold the guest's configuration and its firewall's.
const (
	archivedConfig   = "./etc/vzdump/pct.conf"
	archivedFirewall = "./etc/vzdump/pct.fw"
	maxConfigBytes   = 1 << 20
)

// file returns one small file of the archive.
func (b backupFile) fileNamed(name string) (string, error) {
	tr, done, err := b.open()
	if err != nil {
		return "", err
	}
	defer done()
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return "", fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		if err != nil {
			return "", err
		}
		if h.Name == name {
			raw, err := io.ReadAll(io.LimitReader(tr, maxConfigBytes))
			return string(raw), err
		}
	}
}

// addFile writes a small file into an archive.
func addFile(tw *tar.Writer, name, text string) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(text)), ModTime: time.Now()}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.WriteString(tw, text)
	return err
}

// copyEntries copies what rename keeps of an archive, under the names that it gives.
func copyEntries(ctx context.Context, to *tar.Writer, from *tar.Reader, rename func(string) (string, bool)) error {
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		name, ok := rename(h.Name)
		if !ok {
			continue
		}
		if strings.HasSuffix(h.Name, "/") && !strings.HasSuffix(name, "/") {
			name += "/"
		}
		h.Name, h.Format = name, tar.FormatUnknown
		if err := to.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(to, from); err != nil {
			return err
		}
	}
}

// under puts names below a directory of the guest.
func under(dir string) func(string) (string, bool) {
	return func(name string) (string, bool) { return "./" + strings.TrimPrefix(path.Join(dir, name), "/"), true }
}

// only keeps what is below a directory, under names from there.
func only(dir string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		full := path.Join("/", name)
		if full == dir {
			return "./", true
		}
		rest, ok := strings.CutPrefix(full, dir+"/")
		return "./" + rest, ok
	}
}

// without keeps everything but these directories.
func without(dirs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		full := path.Join("/", name)
		for _, d := range dirs {
			if full == d || strings.HasPrefix(full, d+"/") {
				return "", false
			}
		}
		return name, true
	}
}

// backupRows are the backups in GET content: those of guests that the caller may back
// up, or all for whom the storage is open.
func (c *call) backupRows(s Storage) []map[string]any {
	var rows []map[string]any
	for _, b := range c.node.backups(s) {
		if c.has("vmid") && c.number("vmid", 0) != b.vmid {
			continue
		}
		if c.may(guestACL(b.vmid), "VM.Backup") || c.may(storageACL(s.ID), "Datastore.Allocate") {
			rows = append(rows, b.row(s.ID))
		}
	}
	return rows
}

// deleteBackup removes a backup that is not protected.
func (c *call) deleteBackup(volid string, b backupFile) (result, error) {
	id, _, _ := strings.Cut(volid, ":")
	if !c.may(storageACL(id), "Datastore.Allocate") {
		if err := errors.Join(c.need(storageACL(id), "Datastore.AllocateSpace"), c.need(guestACL(b.vmid), "VM.Backup")); err != nil {
			return result{}, err
		}
	}
	return c.startTask("imgdel", vmidText(b.vmid)+"@"+id, func(t *tasks.Task) error {
		if b.protected() {
			return errProtected("/var/lib/vz/dump/" + b.name)
		}
		if err := b.remove(); err != nil {
			return err
		}
		t.Logf("Removed volume '%s'", volid)
		return nil
	})
}
