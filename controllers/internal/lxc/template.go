package lxc

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/controllers/internal/placement"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// TemplateSeen is what there is on a node to make a guest from.
type TemplateSeen struct {
	// Want is what was looked for, "" when nothing was.
	Want string
	// Volid is the template that is there; else Fetch names the one that Source or Proxmox's
	// index has and that Storage would take; else Blocked says why there is none.
	Volid, Fetch, Storage string
	Shared                bool // Storage is the same on all nodes
	Source                *TemplateSource
	Blocked               *Blocked
}

// Templates says where templates are fetched from and to.
type Templates struct {
	// Storage is where to, when it holds templates; "": the first that does.
	Storage string
	Sources []TemplateSource
}

// TemplateSource is a template that is not in Proxmox's own index.
type TemplateSource struct{ Name, URL, SHA512 string }

// file is the name that the template gets on the storage. It holds the beginning of the
// checksum, so that another content is another file: the server overwrites none.
func (s TemplateSource) file() string {
	const shown = 12
	kind := ".tar.gz"
	for _, k := range []string{".tar.zst", ".tar.xz"} {
		if strings.HasSuffix(s.URL, k) {
			kind = k
		}
	}
	return s.Name + "_" + strings.ToLower(s.SHA512[:min(shown, len(s.SHA512))]) + kind
}

// find returns the source of that name, if there is one, and what a file on a storage must
// be called: exactly as the source's, or to begin with the name.
func (t Templates) find(want string) (*TemplateSource, func(file string) bool) {
	for _, s := range t.Sources {
		if s.Name == want {
			return &s, func(file string) bool { return file == s.file() }
		}
	}
	return nil, func(file string) bool { return strings.HasPrefix(file, want) }
}

// On tells whether a node has the template that a spec wants, or could fetch it.
func (t Templates) On(n placement.NodeFacts, want string) placement.Template {
	source, matches := t.find(want)
	read := true
	for _, s := range n.Storages {
		if s.Active && s.Holds(proxmox.ContentTemplate) && s.Templates == nil {
			read = false
		}
	}
	switch {
	case n.HasTemplate(func(v proxmox.Volid) bool { return v.Volid == want || matches(v.Name()) }):
		return placement.TemplatePresent
	case !read:
		return placement.TemplateUnknown
	case strings.Contains(want, ":"), !n.HasTemplateStorage():
		return placement.TemplateMissing
	case source != nil:
		return placement.TemplateFetchable
	}
	return placement.TemplateUnknown
}

// Template looks for what a spec calls a template, a volume id or a name prefix such as
// debian-12-standard, on the node and in what it could fetch: from the source of that
// name, or else by its index. With several the newest wins.
func (d *Driver) Template(ctx context.Context, node, want string, from Templates) (TemplateSeen, error) {
	seen := TemplateSeen{Want: want}
	source, matches := from.find(want)
	storages, err := d.API.ListStorage(ctx, node, proxmox.ContentTemplate)
	if err != nil {
		return seen, classify(fmt.Errorf("list storages of %s: %w", node, err))
	}
	for _, st := range storages {
		if !bool(st.Active) {
			continue
		}
		if seen.Storage == "" || st.Storage == from.Storage {
			seen.Storage, seen.Shared = st.Storage, bool(st.Shared)
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
			if matches(v.Name()) && (seen.Volid == "" || newer(v.Name(), volumeName(seen.Volid))) {
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
	case source != nil:
		seen.Source, seen.Fetch = source, source.file()
	default:
		return d.indexed(ctx, node, want, seen)
	}
	return seen, nil
}

// IsAboutTemplate tells whether the reason of a Blocked is about the template.
func IsAboutTemplate(reason string) bool {
	return slices.Contains([]string{"TemplateMissing", "NoTemplateStorage", ReasonFetching, ReasonFetchFailed, ReasonChecksumMismatch}, reason)
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
