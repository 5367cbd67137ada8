package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// guestStorage looks whether root file systems can be put where they are wanted.
func (e *examination) guestStorage(ctx context.Context) Check {
	return e.onEachNode(func(node string) Check {
		all, err := e.API.ListStorage(ctx, node, "")
		if err != nil {
			return unseen("the storages of node "+node, err)
		}
		want := e.Want.Storage
		i := slices.IndexFunc(all, func(s proxmox.Storage) bool { return s.Storage == want })
		switch {
		case want == "":
			return fail("the connection names no storage for guests", "pvesm status --content rootdir", "# set one of them as the connection's storage")
		case i < 0:
			return fail(fmt.Sprintf("node %s has no storage %s that is enabled and that %s may see; it has %s", node, want, e.Identity, names(all)),
				"pvesm status", fmt.Sprintf("# set another storage in the connection, or: pvesm set %s --disable 0", want))
		}
		s := all[i]
		switch {
		case !s.Holds(proxmox.ContentRootDir):
			return fail(fmt.Sprintf("storage %s does not hold guests: its content is %s, rootdir is missing", want, s.Content),
				fmt.Sprintf("pvesm set %s --content %s", want, withContent(s.Content, proxmox.ContentRootDir)))
		case !bool(s.Active):
			return fail(fmt.Sprintf("storage %s is not active on node %s", want, node), "pvesm status", "journalctl -u pvestatd --since -10min")
		case s.Total > 0 && s.Avail < s.Total/20:
			return warn(fmt.Sprintf("storage %s on node %s is more than 95 %% full", want, node), "pvesm status")
		}
		return Check{}
	}, "storage %s holds guests", e.Want.Storage)
}

// templates looks whether what guests are made from is there, or can be fetched.
func (e *examination) templates(ctx context.Context) Check {
	return e.onEachNode(func(node string) Check {
		stores, err := e.API.ListStorage(ctx, node, "")
		if err != nil {
			return unseen("the storages of node "+node, err)
		}
		var shelves []proxmox.Storage
		for _, s := range stores {
			if s.Holds(proxmox.ContentTemplate) && bool(s.Active) {
				shelves = append(shelves, s)
			}
		}
		if len(shelves) == 0 {
			return e.noShelf(node, stores)
		}
		index, err := e.API.ListTemplates(ctx, node)
		if err != nil {
			return unseen("the template index of node "+node, err)
		}
		have, err := e.volumes(ctx, node, shelves)
		if err != nil {
			return unseen("the templates of node "+node, err)
		}
		for _, want := range e.Want.Templates {
			if !present(have, want) && !offered(index, want) {
				return e.noTemplate(node, want, shelves[0].Storage)
			}
		}
		return Check{}
	}, "templates are there or can be fetched: %s", strings.Join(e.Want.Templates, ", "))
}

func (e *examination) noShelf(node string, stores []proxmox.Storage) Check {
	fix := []string{"pvesm status"}
	if i := slices.IndexFunc(stores, func(s proxmox.Storage) bool {
		return s.Type == "dir" || s.Type == "nfs" || s.Type == "cifs" || s.Type == "btrfs"
	}); i >= 0 {
		fix = []string{fmt.Sprintf("pvesm set %s --content %s", stores[i].Storage, withContent(stores[i].Content, proxmox.ContentTemplate))}
	}
	return fail(fmt.Sprintf("no storage of node %s holds container templates: the content type vztmpl is missing on %s", node, names(stores)), fix...)
}

func (e *examination) noTemplate(node, want, storage string) Check {
	if strings.Contains(want, ":") {
		return fail(fmt.Sprintf("template %s is not on node %s", want, node), "pvesm list "+storage+" --content vztmpl",
			"# name one that is there, or upload it")
	}
	return fail(fmt.Sprintf("template %s is neither on node %s nor in its index", want, node), "pveam update",
		fmt.Sprintf("pveam download %s $(pveam available --section system | awk '$2 ~ /^%s/ {print $2}' | tail -n 1)", storage, want))
}

func (e *examination) volumes(ctx context.Context, node string, shelves []proxmox.Storage) ([]proxmox.Volid, error) {
	var all []proxmox.Volid
	for _, s := range shelves {
		v, err := e.API.StorageContent(ctx, node, s.Storage, proxmox.ContentTemplate)
		if err != nil {
			return nil, err
		}
		all = append(all, v...)
	}
	return all, nil
}

// present tells whether a template is on one of the storages: a volume id by itself, a
// package by the beginning of a file's name.
func present(have []proxmox.Volid, want string) bool {
	return slices.ContainsFunc(have, func(v proxmox.Volid) bool {
		return v.Volid == want || !strings.Contains(want, ":") && strings.HasPrefix(v.Name(), want)
	})
}

func offered(index []proxmox.ApplianceTemplate, want string) bool {
	return slices.ContainsFunc(index, func(t proxmox.ApplianceTemplate) bool {
		return t.Package == want || strings.HasPrefix(t.Template, want)
	})
}

// vmidRange looks whether there is room for Apps: what is not ours in the range counts as
// taken.
func (e *examination) vmidRange(ctx context.Context) Check {
	guests, err := e.API.ClusterResources(ctx, proxmox.GuestResources)
	if err != nil {
		return unseen("the guests", err)
	}
	start, end := e.Want.VMIDStart, e.Want.VMIDEnd
	var foreign []int
	highest := 0
	for _, g := range guests {
		id := int(g.VMID)
		highest = max(highest, id)
		if id >= start && id <= end && !slices.Contains(proxmox.SplitTags(g.Tags), ownership.Tag) {
			foreign = append(foreign, id)
		}
	}
	size := end - start + 1
	free := max(highest+1, 1000) / 1000 * 1000
	if free <= highest {
		free += 1000
	}
	other := fmt.Sprintf("# set another range in the connection, for example vmidStart: %d and vmidEnd: %d", free, free+size-1)
	switch {
	case size <= 0:
		return fail(fmt.Sprintf("the range of VMIDs, %d to %d, is empty", start, end), other)
	case len(foreign) >= size:
		return fail(fmt.Sprintf("all VMIDs from %d to %d are taken by guests that are not ours", start, end), other)
	case len(foreign) > 0:
		return warn(fmt.Sprintf("guests that are not ours are in our range of VMIDs, %d to %d: %s; theirs are left out", start, end, some(foreign)), other)
	}
	return pass("VMIDs %d to %d are ours", start, end)
}

func some(ids []int) string {
	const most = 5
	slices.Sort(ids)
	text := strings.Trim(fmt.Sprint(ids[:min(most, len(ids))]), "[]")
	if len(ids) > most {
		text += fmt.Sprintf(" and %d more", len(ids)-most)
	}
	return text
}

// onEachNode makes a check on every node; the first finding is the answer. look returns the
// zero Check where there is none.
func (e *examination) onEachNode(look func(node string) Check, format string, args ...any) Check {
	if len(e.online) == 0 {
		return skip("no node can be looked at; see the check %s", CheckNodes)
	}
	for _, node := range e.online {
		if c := look(node); c.Status != "" {
			return c
		}
	}
	return pass(format, args...)
}

func names(all []proxmox.Storage) string {
	if len(all) == 0 {
		return "none"
	}
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = s.Storage
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func withContent(have, add string) string {
	parts := slices.DeleteFunc(strings.Split(have, ","), func(s string) bool { return s == "" || s == "none" })
	parts = append(parts, add)
	slices.Sort(parts)
	return strings.Join(slices.Compact(parts), ",")
}
