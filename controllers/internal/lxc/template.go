package lxc

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// TemplateSeen is what there is on a node to make a guest from.
type TemplateSeen struct {
	// Want is what was looked for, "" when nothing was.
	Want string
	// Volid is the template that is there; else Fetch names the one that Proxmox's index has
	// and that Storage would take; else Blocked says why there is none.
	Volid, Fetch, Storage string
	Blocked               *Blocked
}

// Template looks for what a spec calls a template, a volume id or a name prefix such as
// debian-12-standard, on the node and in the index of what it could fetch. With several the
// newest wins.
func (d *Driver) Template(ctx context.Context, node, want string) (TemplateSeen, error) {
	seen := TemplateSeen{Want: want}
	storages, err := d.API.ListStorage(ctx, node, proxmox.ContentTemplate)
	if err != nil {
		return seen, classify(fmt.Errorf("list storages of %s: %w", node, err))
	}
	for _, st := range storages {
		if !bool(st.Active) {
			continue
		}
		if seen.Storage == "" {
			seen.Storage = st.Storage
		}
		vols, err := d.API.StorageContent(ctx, node, st.Storage, proxmox.ContentTemplate)
		if err != nil {
			return seen, classify(fmt.Errorf("list templates on %s: %w", st.Storage, err))
		}
		for _, v := range vols {
			if v.Volid == want {
				seen.Volid = want
				return seen, nil
			}
			if strings.HasPrefix(v.Name(), want) && (seen.Volid == "" || newer(v.Name(), volumeName(seen.Volid))) {
				seen.Volid = v.Volid
			}
		}
	}
	switch {
	case seen.Volid != "":
	case strings.Contains(want, ":"):
		seen.Blocked = &Blocked{Reason: "TemplateMissing", Text: fmt.Sprintf("template %s is not on node %s; upload it, or name one that is", want, node)}
	case seen.Storage == "":
		seen.Blocked = &Blocked{Reason: "NoTemplateStorage", Text: fmt.Sprintf(
			"no active storage of node %s holds templates; allow the content type vztmpl on one (pvesm set STORAGE --content ...)", node)}
	default:
		return d.indexed(ctx, node, want, seen)
	}
	return seen, nil
}

// IsAboutTemplate tells whether the reason of a Blocked is about the template.
func IsAboutTemplate(reason string) bool {
	return reason == "TemplateMissing" || reason == "NoTemplateStorage"
}

// indexed finds the newest template of that name that could be fetched.
func (d *Driver) indexed(ctx context.Context, node, want string, seen TemplateSeen) (TemplateSeen, error) {
	index, err := d.API.ListTemplates(ctx, node)
	if err != nil {
		return seen, classify(fmt.Errorf("read the template index of %s: %w", node, err))
	}
	for _, t := range index {
		if (t.Package == want || strings.HasPrefix(t.Template, want)) && (seen.Fetch == "" || newer(t.Template, seen.Fetch)) {
			seen.Fetch = t.Template
		}
	}
	if seen.Fetch == "" {
		seen.Blocked = &Blocked{Reason: "TemplateMissing", Text: fmt.Sprintf(
			"no template whose name begins with %q is on node %s or in its index; run `pveam update` there, upload one, or name one that is", want, node)}
	}
	return seen, nil
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
