package usage

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/bulk"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// What usage can be told of.
const (
	Apps       = "apps"
	Nodes      = "nodes"
	Namespaces = "namespaces"
	Appliances = "appliances"
)

// maxHistory bounds the graphs of one answer: a read of each takes Proxmox some 50 ms.
const maxHistory = 500

// subject is one thing that usage is told of, with the graphs that are its.
type subject struct {
	report *v1alpha1.UsageReport
	graphs []seriesKey
	at     time.Time // of the oldest current figures
}

// Report tells what is used, from what is known. It asks Proxmox nothing. What is asked for
// has been checked.
func (d *Desk) Report(ctx context.Context, c runtime.Client, q *v1alpha1.UsageRequest) (*v1alpha1.UsageList, error) {
	subjects, err := d.subjects(ctx, c, q)
	if err != nil {
		return nil, err
	}
	list := &v1alpha1.UsageList{ApiVersion: resource.APIVersion, Kind: "UsageList"}
	slices.SortFunc(subjects, func(a, b *subject) int {
		return cmp.Or(strings.Compare(a.report.Namespace, b.report.Namespace), strings.Compare(a.report.Cluster, b.report.Cluster), strings.Compare(a.report.Name, b.report.Name))
	})
	left, failed, cut := maxHistory, 0, false
	var why error
	for _, s := range subjects {
		if !s.at.IsZero() {
			s.report.ObservedAt, s.report.AgeSeconds = s.at.UTC().Format(time.RFC3339), int32(time.Since(s.at)/time.Second)
		}
		if q.GetRange() != "" {
			if len(s.graphs) > left {
				s.graphs, cut = s.graphs[:left], true
			}
			left -= len(s.graphs)
			pending, errs := d.history(s, q.GetRange())
			list.Pending += int32(pending)
			if len(errs) > 0 {
				failed, why = failed+len(errs), errs[0]
			}
		}
		list.Items = append(list.Items, s.report)
	}
	var notes []string
	if failed > 0 {
		notes = append(notes, fmt.Sprintf("%d graphs could not be read: %v", failed, why))
	}
	if cut {
		notes = append(notes, fmt.Sprintf("history is told of the first %d guests only: narrow the question by namespace or name", maxHistory))
	}
	list.Note = strings.Join(notes, "; ")
	return list, nil
}

// history adds the graphs of a subject.
func (d *Desk) history(s *subject, name string) (pending int, errs []error) {
	span := spans[name]
	var known [][]point
	oldest := time.Now()
	for _, key := range s.graphs {
		key.span = name
		g := d.graph(key, span.fresh)
		switch {
		case !g.at.IsZero():
			known = append(known, g.points)
			if g.at.Before(oldest) {
				oldest = g.at
			}
		case g.failed != nil:
			errs = append(errs, g.failed)
		default:
			pending++
		}
	}
	s.report.StepSeconds, s.report.HistoryAgeSeconds = int32(span.step/time.Second), int32(time.Since(oldest)/time.Second)
	for _, p := range add(known) {
		s.report.History = append(s.report.History, &v1alpha1.UsagePoint{
			Time: p.at.Format(time.RFC3339), Cpu: p.cpu, Memory: p.memory, Disk: p.disk, NetIn: p.netIn, NetOut: p.netOut,
		})
	}
	return pending, errs
}

func (d *Desk) subjects(ctx context.Context, c runtime.Client, q *v1alpha1.UsageRequest) ([]*subject, error) {
	switch q.GetOf() {
	case Nodes:
		return d.nodes(ctx, c, q)
	case Appliances:
		return d.appliances(ctx, c, q)
	case Namespaces:
		return d.namespaces(ctx, c, q)
	}
	apps, err := runtime.List[*v1alpha1.App](ctx, c, "App", q.GetNamespace())
	if err != nil {
		return nil, err
	}
	figures := map[string]*bulk.Figures{}
	var out []*subject
	for _, a := range apps {
		if q.GetName() != "" && a.GetMetadata().GetName() != q.GetName() {
			continue
		}
		s := &subject{report: &v1alpha1.UsageReport{Kind: "App", Namespace: a.GetMetadata().GetNamespace(), Name: a.GetMetadata().GetName(), Current: &v1alpha1.UsageFigures{}}}
		d.count(s, figures, guestOf(a, a.GetStatus().GetCluster(), a.GetStatus().GetNode(), int(a.GetStatus().GetVmid())))
		out = append(out, s)
	}
	return out, nil
}

// guest is where to look for one.
type guest struct {
	uid, cluster, node string
	vmid               int
}

func guestOf(o resource.Object, cl, node string, vmid int) guest {
	return guest{uid: o.GetMetadata().GetUid(), cluster: cmp.Or(cl, cluster.DefaultName), node: node, vmid: vmid}
}

// count adds a guest to a subject. One that was never made has nothing to be counted, and one
// that does not carry the object's mark is not its.
func (d *Desk) count(s *subject, figures map[string]*bulk.Figures, g guest) {
	if g.vmid == 0 || g.node == "" {
		return
	}
	f, asked := figures[g.cluster]
	if !asked {
		f = d.figures(g.cluster)
		figures[g.cluster] = f
	}
	s.graphs = append(s.graphs, seriesKey{cluster: g.cluster, node: g.node, vmid: g.vmid})
	if s.report.Kind != "Namespace" {
		s.report.Cluster, s.report.Node = g.cluster, g.node
	}
	if f == nil {
		return
	}
	use, there := f.Guests[g.vmid]
	if !there || !slices.Contains(proxmox.SplitTags(use.Tags), ownership.UIDTag(g.uid)) {
		return
	}
	if s.at.IsZero() || f.At.Before(s.at) {
		s.at = f.At
	}
	s.report.Guests++
	if s.report.Kind != "Namespace" {
		s.report.Node = use.Node
	}
	s.add(use)
}

func (s *subject) add(u bulk.Use) {
	c := s.report.Current
	c.Cpu, c.CpuLimit = c.Cpu+u.CPU, c.CpuLimit+u.MaxCPU
	c.Memory, c.MemoryLimit = c.Memory+float64(u.Mem), c.MemoryLimit+float64(u.MaxMem)
	c.Disk, c.DiskLimit = c.Disk+float64(u.Disk), c.DiskLimit+float64(u.Size)
}

func (d *Desk) appliances(ctx context.Context, c runtime.Client, q *v1alpha1.UsageRequest) ([]*subject, error) {
	all, err := runtime.List[*v1alpha1.Appliance](ctx, c, "Appliance", "")
	if err != nil {
		return nil, err
	}
	figures := map[string]*bulk.Figures{}
	var out []*subject
	for _, a := range all {
		if q.GetName() != "" && a.GetMetadata().GetName() != q.GetName() {
			continue
		}
		s := &subject{report: &v1alpha1.UsageReport{Kind: "Appliance", Name: a.GetMetadata().GetName(), Current: &v1alpha1.UsageFigures{}}}
		d.count(s, figures, guestOf(a, a.GetSpec().GetClusterRef().GetName(), a.GetStatus().GetNode(), int(a.GetStatus().GetVmid())))
		out = append(out, s)
	}
	return out, nil
}

// namespaces sums the Apps of each.
func (d *Desk) namespaces(ctx context.Context, c runtime.Client, q *v1alpha1.UsageRequest) ([]*subject, error) {
	all, err := c.List(ctx, "Namespace", "")
	if err != nil {
		return nil, err
	}
	apps, err := runtime.List[*v1alpha1.App](ctx, c, "App", "")
	if err != nil {
		return nil, err
	}
	byName := map[string]*subject{}
	for _, o := range all {
		if name := o.GetMetadata().GetName(); q.GetName() == "" || name == q.GetName() {
			byName[name] = &subject{report: &v1alpha1.UsageReport{Kind: "Namespace", Name: name, Current: &v1alpha1.UsageFigures{}}}
		}
	}
	figures := map[string]*bulk.Figures{}
	for _, a := range apps {
		if s := byName[a.GetMetadata().GetNamespace()]; s != nil {
			d.count(s, figures, guestOf(a, a.GetStatus().GetCluster(), a.GetStatus().GetNode(), int(a.GetStatus().GetVmid())))
		}
	}
	return slices.Collect(maps.Values(byName)), nil
}

func (d *Desk) nodes(ctx context.Context, c runtime.Client, q *v1alpha1.UsageRequest) ([]*subject, error) {
	clusters, err := runtime.List[*v1alpha1.Cluster](ctx, c, "Cluster", "")
	if err != nil {
		return nil, err
	}
	var out []*subject
	for _, cl := range clusters {
		name := cl.GetMetadata().GetName()
		if q.GetCluster() != "" && name != q.GetCluster() {
			continue
		}
		f := d.figures(name)
		for _, n := range cl.GetStatus().GetNodes() {
			if q.GetName() != "" && n.GetName() != q.GetName() {
				continue
			}
			s := &subject{
				report: &v1alpha1.UsageReport{Kind: "Node", Name: n.GetName(), Cluster: name, Node: n.GetName(), Current: &v1alpha1.UsageFigures{}},
				graphs: []seriesKey{{cluster: name, node: n.GetName()}},
			}
			if f != nil {
				if use, ok := f.Nodes[n.GetName()]; ok {
					s.at = f.At
					s.add(use)
				}
				for _, g := range f.Guests {
					if g.Node == n.GetName() && g.Online {
						s.report.Guests++
					}
				}
			}
			out = append(out, s)
		}
	}
	return out, nil
}
