package lxc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Reasons of a template that is not there yet.
const (
	ReasonFetching         = "TemplateFetching"
	ReasonFetchFailed      = "TemplateFetchFailed"
	ReasonChecksumMismatch = "TemplateChecksumMismatch"
)

// Fetch is a template that is to be fetched.
type Fetch struct {
	Node, Storage string
	Shared        bool // the storage is the same on all nodes
	File          string
	URL           string // "" for one of Proxmox' own index
}

// Fetches has one object fetch a template for all that wait for it.
type Fetches interface {
	// Begin claims it. An error of the runtime's classes says that another object fetches it,
	// which wakes this one, or that it went wrong of late and is not tried again yet.
	Begin(f Fetch) error
	// End ends what this object has claimed and tells how; nil: it is there, or not begun.
	End(err error)
}

// fetchOf is what a step fetches.
func fetchOf(desired *Desired, t TemplateSeen) Fetch {
	f := Fetch{Node: desired.Node, Storage: t.Storage, Shared: t.Shared, File: t.Fetch}
	if t.Source != nil {
		f.URL = t.Source.URL
	}
	return f
}

// attach looks for a download of the same file that runs already and that nobody here knows
// of: one whose request was lost in a crash, or a human's.
func (d *Driver) attach(ctx context.Context, f Fetch) (proxmox.UPID, bool, error) {
	nodes := []string{f.Node}
	if f.Shared {
		all, err := d.API.Nodes(ctx)
		if err != nil {
			return proxmox.UPID{}, false, classify(fmt.Errorf("list nodes: %w", err))
		}
		nodes = nil
		for _, n := range all {
			if n.Online() {
				nodes = append(nodes, n.Node)
			}
		}
	}
	for _, node := range nodes {
		tasks, err := d.API.Tasks(ctx, node, proxmox.TaskFilter{Source: "active", Type: proxmox.TaskDownload})
		if err != nil {
			return proxmox.UPID{}, false, classify(fmt.Errorf("list downloads on %s: %w", node, err))
		}
		for _, t := range tasks {
			if !t.UPID.IsZero() && string(t.ID) == f.File {
				return t.UPID, true, nil
			}
		}
	}
	return proxmox.UPID{}, false, nil
}

// endFetch tells how a download ended, and sorts its error.
func (d *Driver) endFetch(err error) error {
	var failed *proxmox.TaskError
	if errors.As(err, &failed) && strings.Contains(failed.Error(), "checksum mismatch") {
		err = runtime.Stalled(ReasonChecksumMismatch,
			"what the node fetched is not what the Cluster's spec.templateSources says: %v; correct the source's url or sha512, and remove the file if it is on the storage", failed)
	}
	if d.Fetches != nil {
		d.Fetches.End(err)
	}
	return err
}
