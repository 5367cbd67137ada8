package guest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Bounds of one WriteFiles.
const (
	MaxFiles     = 1000
	MaxFileBytes = 64 << 20 // all files together
	maxPathBytes = 1024
	// cleanupTimeout bounds tidying up after a failure, which runs even when the caller's
	// context is over.
	cleanupTimeout = 15 * time.Second
)

// stageRoot is where staging directories are made.
const stageRoot = "/var/lib/proximity"

// installer is the program that puts staged files in place.
//
//go:embed install.sh
var installer []byte

// File is one file to place in a guest.
type File struct {
	// Path is absolute and clean, without control characters, e.g. /etc/motd. Missing
	// directories above it are made (0755, root).
	Path string
	Data []byte
	// Mode is the permission bits; 0 means 0644.
	Mode fs.FileMode
	// Owner is user or user:group, as names or numbers of the guest; "" is root:root.
	Owner string
}

// WriteFiles places the files in the guest, each one atomically: a reader sees the old
// or the new content, never a part. A symbolic link at Path is replaced, not followed.
//
// It costs two runs: one archive is unpacked, so that the new contents lie beside their
// final names, then one program checks all of them and renames them. When it fails before
// the renames nothing has changed, and nothing is left behind; calling it again is safe.
// The error is one of Runner's, or says what the guest's tools complained of.
func WriteFiles(ctx context.Context, r Runner, t Target, files []File) error {
	return writeFiles(ctx, r, t, files, stageRoot)
}

func writeFiles(ctx context.Context, r Runner, t Target, files []File, root string) error {
	if len(files) == 0 {
		return nil
	}
	if err := checkFiles(files); err != nil {
		return fmt.Errorf("write files in guest %s: %w", t, err)
	}
	s := newStage(root, files)
	if err := s.unpackAndPlace(ctx, r, t); err != nil {
		s.discard(ctx, r, t)
		return fmt.Errorf("write files in guest %s: %w", t, err)
	}
	return nil
}

var ownerPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?$`)

func checkFiles(files []File) error {
	if len(files) > MaxFiles {
		return fmt.Errorf("%d files, at most %d at once", len(files), MaxFiles)
	}
	seen := map[string]bool{}
	total := 0
	for _, f := range files {
		total += len(f.Data)
		switch {
		case !validPath(f.Path):
			return fmt.Errorf("%.80q is not a usable path", f.Path)
		case seen[f.Path]:
			return fmt.Errorf("%s is given twice", f.Path)
		case f.Mode&^fs.ModePerm != 0:
			return fmt.Errorf("%s: mode %o is more than permission bits", f.Path, f.Mode)
		case f.Owner != "" && !ownerPattern.MatchString(f.Owner):
			return fmt.Errorf("%s: %.80q is not an owner", f.Path, f.Owner)
		}
		seen[f.Path] = true
	}
	if total > MaxFileBytes {
		return fmt.Errorf("%d bytes, at most %d at once", total, MaxFileBytes)
	}
	return nil
}

// validPath accepts what the manifest's one line per file can carry: no control
// characters, no white space at the end.
func validPath(p string) bool {
	return strings.HasPrefix(p, "/") && p != "/" && path.Clean(p) == p && len(p) <= maxPathBytes &&
		strings.TrimSpace(p) == p && !strings.ContainsFunc(p, unicode.IsControl)
}

// stage is one WriteFiles under way.
type stage struct {
	id, dir string
	files   []File
}

func newStage(root string, files []File) stage {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	id := hex.EncodeToString(random[:])
	return stage{id: id, dir: root + "/stage-" + id, files: files}
}

// temp is where the new content of file n lies until it is renamed: in the same
// directory, hidden, so that programs that read a whole directory pass over it.
func (s stage) temp(n int) string {
	return path.Join(path.Dir(s.files[n].Path), fmt.Sprintf(".prx-%s-%d", s.id, n))
}

func (s stage) temps() []string {
	out := make([]string, len(s.files))
	for n := range s.files {
		out[n] = s.temp(n)
	}
	return out
}

// archive is a tar of everything, with names relative to /.
func (s stage) archive() ([]byte, error) {
	var out, manifest bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(name string, mode fs.FileMode, data []byte) error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: int64(mode), Size: int64(len(data))}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	for n, f := range s.files {
		fmt.Fprintf(&manifest, "%d %s %s %s\n", n, sha256Hex(f.Data), f.owner(), f.Path)
		if err := add(s.temp(n), f.mode(), f.Data); err != nil {
			return nil, err
		}
	}
	err := errors.Join(
		add(s.dir+"/manifest", 0o600, manifest.Bytes()),
		add(s.dir+"/install", 0o600, installer),
		w.Close(),
	)
	return out.Bytes(), err
}

func (f File) owner() string {
	if f.Owner == "" {
		return "0:0"
	}
	return f.Owner
}

func (f File) mode() fs.FileMode {
	if f.Mode == 0 {
		return 0o644
	}
	return f.Mode
}

func (s stage) unpackAndPlace(ctx context.Context, r Runner, t Target) error {
	archive, err := s.archive()
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	unpack := Command{Argv: []string{"tar", "-x", "-p", "-f", "-", "-C", "/"}, Stdin: bytes.NewReader(archive)}
	if _, err := runOK(ctx, r, t, unpack); err != nil {
		return err
	}
	res, err := r.Run(ctx, t, Command{Argv: []string{"/bin/sh", s.dir + "/install"}})
	if err != nil {
		return err
	}
	if res.ExitCode == notFound {
		return s.placeOneByOne(ctx, r, t)
	}
	return exitError("install", res)
}

// placeOneByOne is for guests without a shell: the same steps, one run each.
func (s stage) placeOneByOne(ctx context.Context, r Runner, t Target) error {
	res, err := runOK(ctx, r, t, Command{Argv: append([]string{"sha256sum"}, s.temps()...)})
	if err != nil {
		return err
	}
	sums := strings.Split(strings.TrimSuffix(string(res.Stdout), "\n"), "\n")
	for n, f := range s.files {
		if n >= len(sums) || !strings.HasPrefix(sums[n], sha256Hex(f.Data)+" ") {
			return fmt.Errorf("%s: arrived damaged", f.Path)
		}
		if _, err := runOK(ctx, r, t, Command{Argv: []string{"chown", f.owner(), s.temp(n)}}); err != nil {
			return err
		}
	}
	for n, f := range s.files {
		if _, err := runOK(ctx, r, t, Command{Argv: []string{"mv", "-f", "-T", s.temp(n), f.Path}}); err != nil {
			return err
		}
	}
	_, err = runOK(ctx, r, t, Command{Argv: []string{"rm", "-rf", s.dir}})
	return err
}

// discard removes what a failed attempt may have left. It is an attempt, too: the
// installer removes what it leaves of older ones.
func (s stage) discard(ctx context.Context, r Runner, t Target) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_, _ = r.Run(ctx, t, Command{Argv: append([]string{"rm", "-rf", s.dir}, s.temps()...)})
}

// MaxReadBytes is the most that ReadFile reads.
const MaxReadBytes = 16 << 20

// ErrTooLarge: the file is longer than the caller's bound.
var ErrTooLarge = errors.New("file is too large")

var noSuchFile = []byte("No such file or directory")

// ReadFile returns a file of the guest, of at most max bytes (0 means DefaultMaxOutput).
// A file that does not exist is an fs.ErrNotExist.
func ReadFile(ctx context.Context, r Runner, t Target, name string, max int) ([]byte, error) {
	if !validPath(name) {
		return nil, fmt.Errorf("read file in guest %s: %.80q is not a usable path", t, name)
	}
	res, err := r.Run(ctx, t, Command{Argv: []string{"cat", name}, MaxOutput: min(max, MaxReadBytes)})
	switch {
	case err != nil:
		return nil, err
	case res.ExitCode != 0 && bytes.Contains(res.Stderr, noSuchFile):
		return nil, fmt.Errorf("read %s in guest %s: %w", name, t, fs.ErrNotExist)
	case res.ExitCode != 0:
		return nil, fmt.Errorf("read %s in guest %s: %w", name, t, exitError("cat", res))
	case res.Truncated:
		return nil, fmt.Errorf("read %s in guest %s: %w", name, t, ErrTooLarge)
	}
	return res.Stdout, nil
}

// RemoveFiles removes files of the guest; what does not exist is no error.
func RemoveFiles(ctx context.Context, r Runner, t Target, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	if bad := slices.IndexFunc(names, func(n string) bool { return !validPath(n) }); bad >= 0 {
		return fmt.Errorf("remove files in guest %s: %.80q is not a usable path", t, names[bad])
	}
	_, err := runOK(ctx, r, t, Command{Argv: append([]string{"rm", "-f"}, names...)})
	return err
}

// runOK runs a command whose failure is an error.
func runOK(ctx context.Context, r Runner, t Target, c Command) (Result, error) {
	res, err := r.Run(ctx, t, c)
	if err == nil {
		err = exitError(c.Argv[0], res)
	}
	return res, err
}

// ExitError is a program that ran and failed where success was needed.
type ExitError struct {
	Program string
	Code    int
	// Complaint is the first line of its standard error.
	Complaint string
}

// Error implements error.
func (e *ExitError) Error() string {
	return fmt.Sprintf("%s ended with %d: %s", e.Program, e.Code, e.Complaint)
}

func exitError(program string, res Result) error {
	if res.ExitCode == 0 {
		return nil
	}
	return &ExitError{Program: program, Code: res.ExitCode, Complaint: firstLine(res.Stderr)}
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
