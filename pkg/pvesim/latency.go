package pvesim

import (
	"context"
	"time"
)

// Latency is how long things take beyond what the simulator itself needs. The zero value
// is no time at all.
type Latency struct {
	// Workers is how many requests a node works on at a time (pvedaemon has three); others
	// wait. 0 is no bound.
	Workers int
	// Read, Write and Fork are what a GET, a change without a task and a request that starts
	// one take; Request is by method and path template ("GET /nodes/{node}/lxc") and goes
	// before them.
	Read, Write, Fork time.Duration
	Request           map[string]time.Duration
	// Task is by the type of the task (vzstart).
	Task map[string]time.Duration
	// ExtractPerMiB is what unpacking a template takes for each MiB of its archive, on top of
	// Task["vzcreate"]. Of that, DiskShare (0 to 1) is work of the node's disk, which guests
	// that are made at the same time do one after the other.
	ExtractPerMiB time.Duration
	DiskShare     float64
	// Connect is a new ssh connection, Exec pct exec, Attach lxc-attach.
	Connect, Exec, Attach time.Duration
}

// RealisticLatency is what a real Proxmox VE 9.1.4 on two shared cores with local raw
// disks took: a 0.9 MB template in 0.27 s, Debian's (70 MiB) in 1.3 s, four of the latter
// at once in 3.8 s.
func RealisticLatency() Latency {
	const ms = time.Millisecond
	return Latency{
		Workers: 3,
		Read:    8 * ms, Write: 38 * ms, Fork: 25 * ms,
		Request: map[string]time.Duration{
			"GET /version":                                5 * ms,
			"GET /cluster/resources":                      5 * ms,
			"GET /nodes/{node}/status":                    5 * ms,
			"GET /nodes/{node}/lxc":                       8 * ms,
			"GET /nodes/{node}/lxc/{vmid}/config":         8 * ms,
			"GET /nodes/{node}/lxc/{vmid}/status/current": 30 * ms,
			"GET /nodes/{node}/network":                   13 * ms,
			"POST /nodes/{node}/lxc":                      55 * ms,
		},
		Task: map[string]time.Duration{
			"vzcreate": 257 * ms, "vzstart": 1100 * ms, "vzstop": 1000 * ms, "vzshutdown": 1500 * ms, "vzreboot": 2100 * ms,
			"vzdestroy": 110 * ms, "vzclone": 1200 * ms, "vzrestore": 1300 * ms, "vzdump": 2000 * ms, "vzmigrate": 3000 * ms,
			"move_volume": 70 * ms, "resize": 300 * ms, "vzsnapshot": 500 * ms, "vzdelsnapshot": 300 * ms, "vzrollback": 600 * ms,
			"srvreload": 1500 * ms, "reloadnetworkall": 200 * ms, "imgcopy": 200 * ms, "imgdel": 50 * ms, "download": 1000 * ms,
		},
		ExtractPerMiB: 14900 * time.Microsecond, DiskShare: 0.8,
		Connect: 160 * ms, Exec: 520 * ms, Attach: 11 * ms,
	}
}

// ofRequest is what one request takes.
func (l *Latency) ofRequest(method, template string) time.Duration {
	if d, ok := l.Request[method+" "+template]; ok {
		return d
	}
	if method == "GET" {
		return l.Read
	}
	if forksTask(method, template) {
		return l.Fork
	}
	return l.Write
}

// forkedBy are the requests whose answer is a UPID, beside those below a guest's status.
var forkedBy = map[string]bool{
	"POST /nodes/{node}/lxc": true, "DELETE /nodes/{node}/lxc/{vmid}": true, "PUT /nodes/{node}/network": true, "PUT /cluster/sdn": true,
	"PUT /nodes/{node}/lxc/{vmid}/resize": true, "POST /nodes/{node}/lxc/{vmid}/clone": true, "POST /nodes/{node}/lxc/{vmid}/snapshot": true,
	"POST /nodes/{node}/lxc/{vmid}/migrate": true, "POST /nodes/{node}/lxc/{vmid}/move_volume": true, "POST /nodes/{node}/vzdump": true,
	"POST /nodes/{node}/lxc/{vmid}/status/start": true, "POST /nodes/{node}/lxc/{vmid}/status/stop": true,
	"POST /nodes/{node}/lxc/{vmid}/status/shutdown": true, "POST /nodes/{node}/lxc/{vmid}/status/reboot": true,
	"POST /nodes/{node}/aplinfo": true, "POST /nodes/{node}/storage/{storage}/download-url": true,
	"DELETE /nodes/{node}/storage/{storage}/content/{volume}": true,
}

func forksTask(method, template string) bool { return forkedBy[method+" "+template] }

// workload is what of a node can be used by one or a few at a time.
type workload struct {
	workers chan struct{}
	disk    chan struct{}
}

func (w *workload) init(l *Latency) {
	w.disk = make(chan struct{}, 1)
	if l.Workers > 0 {
		w.workers = make(chan struct{}, l.Workers)
	}
}

// take waits for a place in a channel of places and returns what gives it back, nil if
// ctx ended first. A nil channel has room for everybody.
func take(ctx context.Context, places chan struct{}) func() {
	if places == nil {
		return func() {}
	}
	select {
	case places <- struct{}{}:
		return func() { <-places }
	case <-ctx.Done():
		return nil
	}
}

// work takes a worker for the time of a request and returns what frees it, nil if the
// client went away.
func (n *Node) work(ctx context.Context, method, template string) func() {
	free := take(ctx, n.load.workers)
	if free == nil {
		return nil
	}
	if d := n.cfg.Latency.ofRequest(method, template); d > 0 && !sleep(ctx, d) {
		free()
		return nil
	}
	return free
}

// extract takes the time that unpacking an archive takes.
func (n *Node) extract(ctx context.Context, archiveBytes int64) error {
	total := time.Duration(float64(n.cfg.Latency.ExtractPerMiB) * float64(archiveBytes) / (1 << 20))
	if total <= 0 {
		return nil
	}
	onDisk := time.Duration(float64(total) * n.cfg.Latency.DiskShare)
	free := take(ctx, n.load.disk)
	if free == nil {
		return ctx.Err()
	}
	ok := sleep(ctx, onDisk)
	free()
	if !ok || !sleep(ctx, total-onDisk) {
		return ctx.Err()
	}
	return nil
}
