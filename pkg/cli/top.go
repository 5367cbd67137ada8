package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
)

const (
	// topPatience is how long graphs are waited for that the daemon reads.
	topPatience = 15 * time.Second
	topPause    = 300 * time.Millisecond
)

var (
	topKinds  = []string{"apps", "nodes", "namespaces", "appliances"}
	topRanges = []string{"hour", "day", "week", "month", "year"}
	topSorts  = []string{"name", "cpu", "memory"}
)

type topOptions struct {
	all      bool
	cluster  string
	timespan string
	output   string
	sortBy   string
}

func (a *app) topCommand() *cobra.Command {
	var o topOptions
	cmd := &cobra.Command{
		Use:   "top apps|nodes|namespaces|appliances [NAME]",
		Short: "Show what Apps, nodes, namespaces and appliances use",
		Long: "Show what Apps, nodes, namespaces and appliances use: now, as the daemon saw it last, or with\n" +
			"--range over an hour, a day, a week, a month or a year, as Proxmox keeps it. CPU is in cores. What is\n" +
			"used by a namespace is what its Apps use. -o json has every point of the history.",
		Example: "  proxctl top apps\n  proxctl top apps -A --sort-by memory\n  proxctl top nodes --range day\n  proxctl top apps nginx-01 --range hour -o json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 {
				return usagef("proxctl top needs apps, nodes, namespaces or appliances, and perhaps a name")
			}
			return nil
		},
		ValidArgs: topKinds,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.top(cmd.Context(), args, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "Apps of all namespaces")
	f.StringVar(&o.cluster, "cluster", "", "nodes of this `cluster` only")
	f.StringVar(&o.timespan, "range", "", "history: hour, day, week, month or year")
	f.StringVarP(&o.output, "output", "o", "", "wide or json")
	f.StringVar(&o.sortBy, "sort-by", "name", "name, cpu or memory")
	return cmd
}

// topKind finds what is meant, also by the singular.
func topKind(text string) (string, error) {
	for _, k := range topKinds {
		if text == k || text == strings.TrimSuffix(k, "s") {
			return k, nil
		}
	}
	return "", usagef("top %q: allowed are apps, nodes, namespaces and appliances", text)
}

func (a *app) top(ctx context.Context, args []string, o topOptions) error {
	of, err := topKind(args[0])
	switch {
	case err != nil:
		return err
	case o.timespan != "" && !slices.Contains(topRanges, o.timespan):
		return usagef("--range %q: allowed are hour, day, week, month and year", o.timespan)
	case o.output != "" && o.output != "wide" && o.output != "json":
		return usagef("-o %q: allowed are wide and json", o.output)
	case !slices.Contains(topSorts, o.sortBy):
		return usagef("--sort-by %q: allowed are name, cpu and memory", o.sortBy)
	case o.cluster != "" && of != "nodes":
		return usagef("--cluster is for nodes only")
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	req := &v1alpha1.UsageRequest{Of: of, Cluster: o.cluster, Range: o.timespan}
	if len(args) == 2 {
		req.Name = args[1]
	}
	if of == "apps" && !o.all {
		req.Namespace = conn.namespace
	}
	list, err := a.usage(ctx, conn, req)
	if err != nil {
		return err
	}
	if err := a.printUsage(list, of, o); err != nil {
		return err
	}
	if list.GetPending() > 0 {
		fmt.Fprintf(a.Err, "%s not read yet: ask again\n", counted(int(list.GetPending()), "graph"))
	}
	if list.GetNote() != "" {
		fmt.Fprintf(a.Err, "note: %s\n", term.Clean(list.GetNote()))
	}
	return nil
}

// usage asks until all graphs are there, and what is used now is known, or patience ends.
func (a *app) usage(ctx context.Context, conn *connection, req *v1alpha1.UsageRequest) (*v1alpha1.UsageList, error) {
	known := func(list *v1alpha1.UsageList) bool {
		return list.GetPending() == 0 && (req.Range != "" || len(list.GetItems()) == 0 || slices.ContainsFunc(list.GetItems(), func(r *v1alpha1.UsageReport) bool { return r.GetObservedAt() != "" || r.GetNode() == "" }))
	}
	for begin := time.Now(); ; {
		list, err := conn.Usage(ctx, req)
		if err != nil || known(list) || time.Since(begin) > topPatience {
			return list, err
		}
		select {
		case <-time.After(topPause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (a *app) printUsage(list *v1alpha1.UsageList, of string, o topOptions) error {
	if o.output == "json" {
		enc := json.NewEncoder(a.Out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(shownUsageList(list))
	}
	items := slices.Clone(list.GetItems())
	slices.SortStableFunc(items, func(x, y *v1alpha1.UsageReport) int {
		cx, mx := weigh(x, o.timespan)
		cy, my := weigh(y, o.timespan)
		switch o.sortBy {
		case "cpu":
			return cmp.Compare(cy, cx)
		case "memory":
			return cmp.Compare(my, mx)
		}
		return 0
	})
	var headings []string
	if of == "apps" && o.all {
		headings = append(headings, "NAMESPACE")
	}
	headings = append(headings, "NAME")
	if of == "apps" || of == "appliances" {
		headings = append(headings, "NODE")
	}
	if of == "namespaces" || of == "nodes" {
		headings = append(headings, "GUESTS")
	}
	if o.timespan == "" {
		headings = append(headings, "CPU", "CPU%", "MEMORY", "MEMORY%", "DISK")
		if o.output == "wide" {
			headings = append(headings, "CORES", "MEMORY LIMIT", "DISK SIZE", "AGE")
		}
	} else {
		headings = append(headings, "CPU AVG", "CPU MAX", "MEMORY AVG", "MEMORY MAX", "IN/S", "OUT/S")
		if o.output == "wide" {
			headings = append(headings, "POINTS", "FROM", "AGE")
		}
	}
	var rows [][]string
	for _, r := range items {
		rows = append(rows, usageRow(r, of, o))
	}
	return writeTable(a.Out, headings, rows)
}

// weigh is what a report is sorted by.
func weigh(r *v1alpha1.UsageReport, timespan string) (cpu, memory float64) {
	if timespan == "" {
		return r.GetCurrent().GetCpu(), r.GetCurrent().GetMemory()
	}
	s := summarize(r.GetHistory())
	return s.cpu, s.memory
}

func usageRow(r *v1alpha1.UsageReport, of string, o topOptions) (row []string) {
	if of == "apps" && o.all {
		row = append(row, cellOr(r.GetNamespace()))
	}
	row = append(row, term.Clean(r.GetName()))
	if of == "apps" || of == "appliances" {
		row = append(row, cellOr(term.Clean(r.GetNode())))
	}
	if of == "namespaces" || of == "nodes" {
		row = append(row, strconv.Itoa(int(r.GetGuests())))
	}
	cores := func(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }
	bytes := func(f float64) string { return sizeText(int64(f)) }
	if o.timespan == "" {
		c := r.GetCurrent()
		if r.GetObservedAt() == "" {
			row = append(row, none, none, none, none, none)
		} else {
			row = append(row, cores(c.GetCpu()), share(c.GetCpu(), c.GetCpuLimit()), bytes(c.GetMemory()), share(c.GetMemory(), c.GetMemoryLimit()), bytes(c.GetDisk()))
		}
		if o.output == "wide" {
			row = append(row, cores(c.GetCpuLimit()), bytes(c.GetMemoryLimit()), bytes(c.GetDiskLimit()), fmt.Sprintf("%ds", r.GetAgeSeconds()))
		}
		return row
	}
	s := summarize(r.GetHistory())
	if len(r.GetHistory()) == 0 {
		row = append(row, none, none, none, none, none, none)
	} else {
		row = append(row, cores(s.cpu), cores(s.cpuMax), bytes(s.memory), bytes(s.memoryMax), bytes(s.in), bytes(s.out))
	}
	if o.output == "wide" {
		from := none
		if len(r.GetHistory()) > 0 {
			from = r.GetHistory()[0].GetTime()
		}
		row = append(row, strconv.Itoa(len(r.GetHistory())), from, fmt.Sprintf("%ds", r.GetHistoryAgeSeconds()))
	}
	return row
}

// share is how much of a limit is used.
func share(used, limit float64) string {
	if limit <= 0 {
		return none
	}
	return strconv.Itoa(int(used/limit*100+0.5)) + "%"
}

type usageSummary struct{ cpu, cpuMax, memory, memoryMax, in, out float64 }

func summarize(points []*v1alpha1.UsagePoint) (s usageSummary) {
	for _, p := range points {
		n := float64(len(points))
		s.cpu, s.memory, s.in, s.out = s.cpu+p.GetCpu()/n, s.memory+p.GetMemory()/n, s.in+p.GetNetIn()/n, s.out+p.GetNetOut()/n
		s.cpuMax, s.memoryMax = max(s.cpuMax, p.GetCpu()), max(s.memoryMax, p.GetMemory())
	}
	return s
}

// shownUsage is a report as -o json prints it, with the names of REST.
type shownUsage struct {
	Kind              string            `json:"kind"`
	Namespace         string            `json:"namespace,omitempty"`
	Name              string            `json:"name"`
	Cluster           string            `json:"cluster,omitempty"`
	Node              string            `json:"node,omitempty"`
	Guests            int32             `json:"guests"`
	ObservedAt        string            `json:"observedAt,omitempty"`
	AgeSeconds        int32             `json:"ageSeconds"`
	Current           shownFigures      `json:"current"`
	History           []shownUsagePoint `json:"history,omitempty"`
	StepSeconds       int32             `json:"stepSeconds,omitempty"`
	HistoryAgeSeconds int32             `json:"historyAgeSeconds,omitempty"`
}

type shownFigures struct {
	CPU         float64 `json:"cpu"`
	CPULimit    float64 `json:"cpuLimit"`
	Memory      float64 `json:"memory"`
	MemoryLimit float64 `json:"memoryLimit"`
	Disk        float64 `json:"disk"`
	DiskLimit   float64 `json:"diskLimit"`
}

type shownUsagePoint struct {
	Time   string  `json:"time"`
	CPU    float64 `json:"cpu"`
	Memory float64 `json:"memory"`
	Disk   float64 `json:"disk"`
	NetIn  float64 `json:"netIn"`
	NetOut float64 `json:"netOut"`
}

func shownUsageList(list *v1alpha1.UsageList) any {
	items := make([]shownUsage, len(list.GetItems()))
	for i, r := range list.GetItems() {
		c := r.GetCurrent()
		items[i] = shownUsage{
			Kind: r.GetKind(), Namespace: r.GetNamespace(), Name: r.GetName(), Cluster: r.GetCluster(), Node: r.GetNode(), Guests: r.GetGuests(),
			ObservedAt: r.GetObservedAt(), AgeSeconds: r.GetAgeSeconds(), StepSeconds: r.GetStepSeconds(), HistoryAgeSeconds: r.GetHistoryAgeSeconds(),
			Current: shownFigures{c.GetCpu(), c.GetCpuLimit(), c.GetMemory(), c.GetMemoryLimit(), c.GetDisk(), c.GetDiskLimit()},
		}
		for _, p := range r.GetHistory() {
			items[i].History = append(items[i].History, shownUsagePoint{p.GetTime(), p.GetCpu(), p.GetMemory(), p.GetDisk(), p.GetNetIn(), p.GetNetOut()})
		}
	}
	return map[string]any{"apiVersion": list.GetApiVersion(), "kind": list.GetKind(), "items": items, "pending": list.GetPending(), "note": list.GetNote()}
}
