// Package inventory is the list of what a Sync has applied, as its status has it.
package inventory

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Entry is one object of an inventory and the file it is in.
type Entry struct {
	Key  resource.Key
	File string
}

// maxInventory bounds an unpacked inventory, in bytes: 20,000 objects with long names.
const maxInventory = 16 << 20

// Encode packs entries, sorted: the same entries give the same text. 5,000 objects
// take some 40 KiB.
func Encode(entries []Entry) *v1alpha1.SyncInventory {
	lines := make([]string, len(entries))
	for i, e := range entries {
		ns := e.Key.Namespace
		if ns == "" {
			ns = "-"
		}
		lines[i] = fmt.Sprintf("%s %s %s %s\n", e.Key.Kind, ns, e.Key.Name, url.PathEscape(e.File))
	}
	slices.Sort(lines)
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestSpeed) // the level is valid, and a buffer takes all
	for _, line := range lines {
		_, _ = io.WriteString(w, line)
	}
	_ = w.Close()
	return &v1alpha1.SyncInventory{
		Count: proto.Int32(int32(len(entries))), Entries: proto.String(base64.StdEncoding.EncodeToString(b.Bytes())),
	}
}

var errInventory = errors.New("the inventory cannot be read")

// Decode unpacks an inventory; nil has no entries.
func Decode(inv *v1alpha1.SyncInventory) ([]Entry, error) {
	if inv.GetEntries() == "" {
		return nil, nil
	}
	packed, err := base64.StdEncoding.DecodeString(inv.GetEntries())
	if err != nil {
		return nil, errInventory
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxInventory+1))
	if err != nil || len(text) > maxInventory {
		return nil, errInventory
	}
	var entries []Entry
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(f) != 4 {
			return nil, errInventory
		}
		file, err := url.PathUnescape(f[3])
		if err != nil {
			return nil, errInventory
		}
		e := Entry{resource.Key{Kind: f[0], Namespace: f[1], Name: f[2]}, file}
		if e.Key.Namespace == "-" {
			e.Key.Namespace = ""
		}
		entries = append(entries, e)
	}
	return entries, nil
}
