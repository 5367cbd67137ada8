package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/appliance"
	guestside "github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/privatefile"
	"github.com/proximity-pve/proximity/pkg/seal"
)

// keptState keeps copies of appliances' state in a directory, one file each, sealed: keys of CAs
// and accounts are in them. A file whose key is gone counts as none; the next copy replaces it.
type keptState struct {
	dir  string
	keys *seal.Keyring
}

// maxKeptBytes bounds a file: sealed text is longer than what is in it.
const maxKeptBytes = 2 * guestside.MaxStateBytes

var uidPattern = regexp.MustCompile(`^[0-9a-f-]{1,64}$`)

func (k keptState) path(a *v1alpha1.Appliance) (string, error) {
	uid := a.GetMetadata().GetUid()
	if !uidPattern.MatchString(uid) {
		return "", fmt.Errorf("state of an appliance: %q is not a uid", uid)
	}
	return filepath.Join(k.dir, uid+".state"), nil
}

// maxPiece is how much is sealed at a time: a sealed text has a bound of its own. Each piece is
// a line, sealed to its number and the number of all, so that none can be left out or moved.
const maxPiece = 512 << 10

func (k keptState) seal(a *v1alpha1.Appliance, state []byte) []byte {
	pieces := slices.Collect(slices.Chunk(state, maxPiece))
	var file bytes.Buffer
	for i, piece := range pieces {
		file.WriteString(k.keys.Seal(place(a, i, len(pieces)), piece))
		file.WriteByte('\n')
	}
	return file.Bytes()
}

func (k keptState) open(a *v1alpha1.Appliance, file []byte) ([]byte, error) {
	lines := strings.Split(strings.TrimSuffix(string(file), "\n"), "\n")
	var state []byte
	for i, line := range lines {
		piece, err := k.keys.Open(place(a, i, len(lines)), line)
		if err != nil {
			return nil, err
		}
		state = append(state, piece...)
	}
	return state, nil
}

func place(a *v1alpha1.Appliance, i, n int) seal.Place {
	return seal.PlaceOf(a, fmt.Sprintf("state %d of %d", i+1, n))
}

// Keep implements appliance.Keeper. A copy that is equal to the one before is not written.
func (k keptState) Keep(a *v1alpha1.Appliance, state []byte) error {
	path, err := k.path(a)
	if err != nil {
		return err
	}
	if old, err := k.Kept(a); err == nil && string(old) == string(state) {
		return nil
	}
	if err := os.MkdirAll(k.dir, privatefile.DirMode); err != nil {
		return fmt.Errorf("keep state: %w", err)
	}
	return privatefile.Replace(path, k.seal(a, state), privatefile.PrivateMode)
}

// Kept implements appliance.Keeper.
func (k keptState) Kept(a *v1alpha1.Appliance) ([]byte, error) {
	path, err := k.path(a)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, appliance.ErrNotKept
	case err != nil:
		return nil, fmt.Errorf("kept state: %w", err)
	case info.Size() > maxKeptBytes:
		return nil, fmt.Errorf("%w: %s is too large to be one", appliance.ErrNotKept, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("kept state: %w", err)
	}
	state, err := k.open(a, text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", appliance.ErrNotKept, path, err)
	}
	return state, nil
}

// Drop implements appliance.Keeper.
func (k keptState) Drop(a *v1alpha1.Appliance) error {
	path, err := k.path(a)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop kept state: %w", err)
	}
	return nil
}
