package cli

import (
	"context"
	"sync/atomic"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// fakeUsage knows two of each, and the history of what it is asked for the third time only.
type fakeUsage struct{ asked atomic.Int32 }

func (f *fakeUsage) Usage(_ context.Context, q *v1alpha1.UsageRequest) (*v1alpha1.UsageList, error) {
	list := &v1alpha1.UsageList{ApiVersion: "proximity/v1alpha1", Kind: "UsageList"}
	kind := map[string]string{"apps": "App", "nodes": "Node", "namespaces": "Namespace", "appliances": "Appliance"}[q.Of]
	for i, name := range []string{"busy", "idle\x1b[31m"} {
		if q.Name != "" && q.Name != name {
			continue
		}
		r := &v1alpha1.UsageReport{
			Kind: kind, Namespace: q.Namespace, Name: name, Cluster: "default", Node: "pve", Guests: int32(2 - i), ObservedAt: "2026-01-02T03:04:05Z", AgeSeconds: 3,
			Current: &v1alpha1.UsageFigures{Cpu: 1.5 - float64(i), CpuLimit: 2, Memory: float64(int64(256<<i) << 20), MemoryLimit: 512 << 20, Disk: 1 << 30, DiskLimit: 4 << 30},
		}
		if q.Range != "" && f.asked.Add(1) < 5 {
			list.Pending++
		} else if q.Range != "" {
			r.StepSeconds, r.HistoryAgeSeconds = 60, 7
			r.History = []*v1alpha1.UsagePoint{
				{Time: "2026-01-02T03:00:00Z", Cpu: 1, Memory: 100 << 20, NetIn: 2048, NetOut: 10},
				{Time: "2026-01-02T03:01:00Z", Cpu: 0.5, Memory: float64(int64(200<<i) << 20)},
			}
		}
		list.Items = append(list.Items, r)
	}
	if q.Of == "namespaces" {
		list.Note = "1 graphs could not be read: it is away"
	}
	return list, nil
}
