package lxc

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// PurposeDownload is the journal's purpose of a template download.
const PurposeDownload = "DownloadTemplate"

// Template resolves what a spec calls a template, a volume id or a name prefix such as
// debian-12-standard, to a volume id on the node. With several the newest wins. One that
// is not there is fetched through Proxmox's own index; the download is a task in the
// journal, and the error is Waiting meanwhile.
func (d *Driver) Template(ctx context.Context, node, want string) (string, error) {
	if err := d.Settle(ctx); err != nil {
		return "", err
	}
	storages, err := d.API.ListStorage(ctx, node, proxmox.ContentTemplate)
	if err != nil {
		return "", classify(fmt.Errorf("list storages of %s: %w", node, err))
	}
	best, target := "", ""
	for _, st := range storages {
		if !bool(st.Active) {
			continue
		}
		if target == "" {
			target = st.Storage
		}
		vols, err := d.API.StorageContent(ctx, node, st.Storage, proxmox.ContentTemplate)
		if err != nil {
			return "", classify(fmt.Errorf("list templates on %s: %w", st.Storage, err))
		}
		for _, v := range vols {
			if v.Volid == want {
				return want, nil
			}
			if strings.HasPrefix(v.Name(), want) && (best == "" || newer(v.Name(), volumeName(best))) {
				best = v.Volid
			}
		}
	}
	switch {
	case best != "":
		return best, nil
	case strings.Contains(want, ":"):
		return "", runtime.Stalled("TemplateMissing", "template %s is not on node %s; upload it, or name one that is", want, node)
	case target == "":
		return "", runtime.Stalled("NoTemplateStorage", "no active storage of node %s holds templates; allow the content type vztmpl on one (pvesm set STORAGE --content ...)", node)
	}
	return "", d.fetchTemplate(ctx, node, target, want)
}

// fetchTemplate starts the download of the newest indexed template of that name.
func (d *Driver) fetchTemplate(ctx context.Context, node, storage, want string) error {
	index, err := d.API.ListTemplates(ctx, node)
	if err != nil {
		return classify(fmt.Errorf("read the template index of %s: %w", node, err))
	}
	best := ""
	for _, t := range index {
		if (t.Package == want || strings.HasPrefix(t.Template, want)) && (best == "" || newer(t.Template, best)) {
			best = t.Template
		}
	}
	if best == "" {
		return runtime.Stalled("TemplateMissing",
			"no template whose name begins with %q is on node %s or in its index; run `pveam update` there, upload one, or name one that is", want, node)
	}
	upid, err := d.API.DownloadTemplate(ctx, node, storage, best)
	if err != nil {
		return classify(fmt.Errorf("download template %s: %w", best, err))
	}
	if err := d.Journal.SetTask(ctx, upid.String(), PurposeDownload); err != nil {
		return err
	}
	d.Report.Normal(ctx, PurposeDownload, "fetching %s to %s; task %s", best, storage, upid)
	return runtime.Waiting(taskRecheck, "FetchingTemplate", "template %s is being fetched to %s on %s", best, storage, node)
}

func volumeName(volid string) string { return proxmox.Volid{Volid: volid}.Name() }

// newer compares template file names by their runs of digits as numbers: 12.10 is newer
// than 12.9.
func newer(a, b string) bool {
	for a != "" && b != "" {
		an, ar := digits(a)
		bn, br := digits(b)
		if an != "" && bn != "" {
			x, _ := strconv.ParseUint(an, 10, 64)
			y, _ := strconv.ParseUint(bn, 10, 64)
			if x != y {
				return x > y
			}
			a, b = ar, br
			continue
		}
		if a[0] != b[0] {
			return a[0] > b[0]
		}
		a, b = a[1:], b[1:]
	}
	return len(a) > len(b)
}

// digits splits a leading run of at most 18 digits off s.
func digits(s string) (run, rest string) {
	i := 0
	for i < len(s) && i < 18 && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}
