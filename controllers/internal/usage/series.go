package usage

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/proximity-pve/proximity/controllers/internal/bulk"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// span is a range of history: how dense its points are, and how long they are good for.
type span struct {
	frame proxmox.Timeframe
	step  time.Duration
	fresh time.Duration
}

// spans by name. Points are averages over whole steps since 1970, so that those of several
// guests can be added.
var spans = map[string]span{
	"hour":  {proxmox.LastHour, time.Minute, time.Minute},
	"day":   {proxmox.LastDay, 15 * time.Minute, 5 * time.Minute},
	"week":  {proxmox.LastWeek, 2 * time.Hour, 30 * time.Minute},
	"month": {proxmox.LastMonth, 8 * time.Hour, 2 * time.Hour},
	"year":  {proxmox.LastYear, 96 * time.Hour, 6 * time.Hour},
}

// Ranges are the names of ranges of history, from short to long.
var Ranges = []string{"hour", "day", "week", "month", "year"}

// point is an average over a step that begins at at.
type point struct {
	at                               time.Time
	cpu, memory, disk, netIn, netOut float64
}

// seriesKey names a graph: of a guest (vmid) or of a node. With an empty span it stands for
// the current figures of a cluster.
type seriesKey struct {
	cluster, node string
	vmid          int
	span          string
}

// series is a graph. failed is the error of the last read, nil if it went well.
type series struct {
	points []point
	at     time.Time // when it was read; zero: never
	asked  time.Time // when somebody asked for it
	failed error
	tried  time.Time
}

// read asks Proxmox for a graph. A guest is asked for where it was seen last.
func read(ctx context.Context, v *bulk.View, key seriesKey) ([]point, error) {
	s := spans[key.span]
	if key.vmid == 0 {
		samples, err := v.NodeSamples(ctx, key.node, s.frame)
		return condense(samples, s.step, nodePoint), err
	}
	node := key.node
	if f := v.Figures(); f != nil && f.Guests[key.vmid].Node != "" {
		node = f.Guests[key.vmid].Node
	}
	if node == "" {
		return nil, fmt.Errorf("where guest %d is, is not known", key.vmid)
	}
	samples, err := v.LXCSamples(ctx, node, key.vmid, s.frame)
	return condense(samples, s.step, guestPoint), err
}

// guestPoint and nodePoint take the figures out of a row; false: it is a gap. A guest that
// was stopped has limits only.
func guestPoint(v map[string]float64) (point, bool) {
	_, cpu := v["cpu"]
	_, mem := v["mem"]
	return point{cpu: v["cpu"] * v["maxcpu"], memory: v["mem"], disk: v["disk"], netIn: v["netin"], netOut: v["netout"]}, cpu || mem
}

func nodePoint(v map[string]float64) (point, bool) {
	_, cpu := v["cpu"]
	_, mem := v["memused"]
	return point{cpu: v["cpu"] * v["maxcpu"], memory: v["memused"], disk: v["rootused"], netIn: v["netin"], netOut: v["netout"]}, cpu || mem
}

// condense averages rows over whole steps, oldest first.
func condense(samples []proxmox.Sample, step time.Duration, take func(map[string]float64) (point, bool)) []point {
	sums, count := map[int64]point{}, map[int64]float64{}
	for _, s := range samples {
		p, ok := take(s.Values)
		if !ok {
			continue
		}
		at := s.Time.Unix() / int64(step/time.Second)
		sums[at] = sums[at].plus(p)
		count[at]++
	}
	points := make([]point, 0, len(sums))
	for at, sum := range sums {
		p := sum.times(1 / count[at])
		p.at = time.Unix(at*int64(step/time.Second), 0).UTC()
		points = append(points, p)
	}
	sort.Slice(points, func(i, j int) bool { return points[i].at.Before(points[j].at) })
	const most = 100
	return points[max(0, len(points)-most):]
}

func (p point) plus(q point) point {
	return point{at: p.at, cpu: p.cpu + q.cpu, memory: p.memory + q.memory, disk: p.disk + q.disk, netIn: p.netIn + q.netIn, netOut: p.netOut + q.netOut}
}

func (p point) times(f float64) point {
	return point{at: p.at, cpu: p.cpu * f, memory: p.memory * f, disk: p.disk * f, netIn: p.netIn * f, netOut: p.netOut * f}
}

// add sums graphs of one span; at a time for which one has no point the others count.
func add(all [][]point) []point {
	sums := map[int64]point{}
	for _, points := range all {
		for _, p := range points {
			sum := sums[p.at.Unix()].plus(p)
			sum.at = p.at
			sums[p.at.Unix()] = sum
		}
	}
	out := make([]point, 0, len(sums))
	for _, p := range sums {
		out = append(out, p)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].at.Before(out[j].at) })
	return out
}
