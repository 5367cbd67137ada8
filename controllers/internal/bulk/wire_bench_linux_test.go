package bulk

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// benchNodes are the nodes of the simulated cluster.
const benchNodes = 2

// BenchmarkCheckOverTLS is the check of guests of which none has changed, with the production
// client and TLS to a simulated cluster in the same process: where and how all guests are, and
// the question of each object. The audit and the list of tasks have budgets of their own (doc.go).
func BenchmarkCheckOverTLS(b *testing.B) {
	for _, guests := range []int{500, 10_000} {
		b.Run(fmt.Sprint(guests), func(b *testing.B) {
			var requests atomic.Int64
			v := benchView(b, guests, func() { requests.Add(1) })
			woken := 0
			wake := func(resource.Key) { woken++ }
			check := func() {
				nodes, err := v.where(b.Context(), wake)
				if err != nil || len(nodes) != benchNodes {
					b.Fatalf("guests on %v, %v", nodes, err)
				}
				for _, node := range nodes {
					v.lookAt(b.Context(), node, false, wake)
				}
			}
			for i := range guests {
				v.Guest(keyOf(100+i), 100+i)
			}
			check()
			for i := range guests {
				g := v.guests[100+i]
				v.Guest(keyOf(100+i), 100+i).Saw(time.Now(), g.face.node, "d1", proxmox.LXCStatus{Status: g.face.status}, i)
			}
			requests.Store(0)
			before := cpuSeconds(b)
			b.ResetTimer()
			for range b.N {
				check()
				for i := range guests {
					if _, ok := v.Guest(keyOf(100+i), 100+i).Recall(); !ok {
						b.Fatalf("guest %d is not relied upon", 100+i)
					}
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(requests.Load())/float64(b.N), "requests/op")
			b.ReportMetric((cpuSeconds(b)-before)/float64(b.N), "cpu-s/op")
			b.ReportMetric(residentMiB(b), "MiB")
			if woken > 0 {
				b.Errorf("%d woken", woken)
			}
		})
	}
}

// cpuSeconds is what the process has used of processors so far, the simulator included.
func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// residentMiB is the memory of the process, likewise.
func residentMiB(b *testing.B) (mib float64) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &mib); err == nil {
			return mib / 1024
		}
	}
	b.Fatal("the process has no VmRSS")
	return 0
}

// benchView is a view of a cluster with guests, all of which run. They are put where the
// simulator keeps them: making them by the API is not what is measured.
func benchView(b *testing.B, guests int, requested func()) *View {
	b.Helper()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	var engines []*mem.Engine
	cfg := pvesim.Config{Dir: dir}
	for i := range benchNodes {
		e, err := mem.New(mem.Config{})
		must(err)
		b.Cleanup(func() { _ = e.Close() })
		engines = append(engines, e)
		if i == 0 {
			cfg.Engine = e
		} else {
			cfg.Peers = append(cfg.Peers, pvesim.Peer{NodeName: fmt.Sprintf("pve%d", i+1), Engine: e})
		}
	}
	node, err := pvesim.New(cfg)
	must(err)
	b.Cleanup(func() { _ = node.Close() })
	for i := range guests {
		place, vmid := filepath.Join(dir, "lxc"), 100+i
		if at := i % benchNodes; at > 0 {
			place = filepath.Join(dir, "nodes", fmt.Sprintf("pve%d", at+1), "lxc")
		}
		g := engine.Guest{VMID: vmid, Hostname: fmt.Sprintf("app-%d", vmid), Template: "debian-12-standard_12.12-1_amd64.tar.zst", Unprivileged: true, MemoryMiB: 512}
		must(engines[i%benchNodes].Create(b.Context(), g, io.Discard))
		must(engines[i%benchNodes].Start(b.Context(), g))
		must(os.WriteFile(filepath.Join(place, fmt.Sprintf("%d.conf", vmid)), fmt.Appendf(nil,
			"arch: amd64\ncores: 1\nhostname: %s\nmemory: 512\nnet0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:%02X:%02X,ip=dhcp,type=veth\n"+
				"ostype: debian\nrootfs: local-lvm:vm-%d-disk-0,size=8G\nswap: 512\ntags: proximity;prx-%016x\nunprivileged: 1\n",
			g.Hostname, vmid>>8&0xff, vmid&0xff, vmid, vmid), 0o600))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go func() { _ = node.ServeAPI(l) }() // ends with the node
	creds := node.Credentials()
	api, err := proxmox.New(proxmox.Config{
		Endpoints: []string{"https://" + l.Addr().String()}, TokenID: creds.TokenID, TokenSecret: creds.TokenSecret,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // our own loopback
		Observe:   func(string, string, int, time.Duration) { requested() },
	})
	must(err)
	b.Cleanup(api.Close)
	_, err = api.ClusterResources(context.Background(), proxmox.AllResources) // what it reads it keeps
	must(err)
	return newView(&cluster.Connection{Name: cluster.DefaultName, API: api}, slog.New(slog.DiscardHandler), period, func(resource.Key) {})
}
