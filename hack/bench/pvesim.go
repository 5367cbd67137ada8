package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// simulatedNodes is how many nodes the guests of the simulator are spread over, its most.
const simulatedNodes = 16

// pvesimFigures are about the simulated Proxmox VE: a large cluster must answer the one
// request from which the drift of all guests is seen, in bounded time and memory.
func pvesimFigures(b *bench) []figure {
	s := &pvesimArea{bench: b}
	many := fmt.Sprint(b.objects)
	return []figure{
		{"pvesim/resources-" + many, "ms", valueAtMost(1000), s.resources},
		{"pvesim/memory-" + many, "MiB", valueAtMost(400), s.memory},
	}
}

type pvesimArea struct {
	*bench
	cluster shared[*simulated16]
}

// simulated16 is a cluster with guests, half of them running.
type simulated16 struct {
	url, token string
	client     *http.Client
	mib        float64 // that the process grew by
	guests     int
}

// resources is the median time of GET /cluster/resources, over TLS and with the check of
// a token's privileges on each guest.
func (s *pvesimArea) resources(ctx context.Context) (measured, error) {
	c, err := s.cluster.get(s.simulate)
	if err != nil {
		return measured{}, err
	}
	var all []float64
	for end := time.Now().Add(time.Duration(s.rounds) * s.slice); time.Now().Before(end) || len(all) == 0; {
		started := time.Now()
		rows, err := c.list(ctx)
		if err != nil {
			return measured{}, err
		}
		if rows != c.guests {
			return measured{}, fmt.Errorf("%d guests are listed, want %d", rows, c.guests)
		}
		all = append(all, time.Since(started).Seconds()*1000)
	}
	return measured{value: quantile(all, 0.5), detail: []string{fmt.Sprintf("median of %d, %d nodes; p99 %s ms", len(all), simulatedNodes, number(quantile(all, 0.99)))}}, nil
}

func (s *pvesimArea) memory(context.Context) (measured, error) {
	c, err := s.cluster.get(s.simulate)
	if err != nil {
		return measured{}, err
	}
	return measured{value: c.mib, detail: []string{"guests' files and programs in memory included"}}, nil
}

func (c *simulated16) list(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/api2/json/cluster/resources?type=vm", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", c.token)
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return 0, errors.Join(err, errors.New(resp.Status))
	}
	return bytes.Count(raw, []byte(`"id":"lxc/`)), nil
}

func heapMiB() float64 {
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// simulate makes the cluster. Its guests are put where the simulator keeps them, because
// creating them by the API is not what is measured.
func (s *pvesimArea) simulate() (*simulated16, error) {
	before := heapMiB()
	dir := filepath.Join(s.dir, "pvesim")
	engines := make([]*mem.Engine, simulatedNodes)
	cfg := pvesim.Config{Dir: dir}
	for i := range engines {
		e, err := mem.New(mem.Config{})
		if err != nil {
			return nil, err
		}
		s.atEnd(e.Close)
		engines[i] = e
		if i == 0 {
			cfg.Engine = e
		} else {
			cfg.Peers = append(cfg.Peers, pvesim.Peer{NodeName: fmt.Sprintf("pve%d", i+1), Engine: e})
		}
	}
	node, err := pvesim.New(cfg)
	if err != nil {
		return nil, err
	}
	s.atEnd(node.Close)
	for i := range s.objects {
		at := i % simulatedNodes
		guests := filepath.Join(dir, "lxc")
		if at > 0 {
			guests = filepath.Join(dir, "nodes", fmt.Sprintf("pve%d", at+1), "lxc")
		}
		if err := simulateGuest(engines[at], guests, 100+i, i%2 == 0); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() { _ = node.ServeAPI(l) }() // ends with the node
	creds := node.Credentials()
	c := &simulated16{
		url: "https://" + l.Addr().String(), token: "PVEAPIToken=" + creds.TokenID + "=" + creds.TokenSecret, guests: s.objects,
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}, //nolint:gosec // our own loopback
	}
	s.atEnd(func() error { c.client.CloseIdleConnections(); return nil })
	if _, err := c.list(context.Background()); err != nil { // what it reads it keeps
		return nil, err
	}
	c.mib = heapMiB() - before
	return c, nil
}

func simulateGuest(e *mem.Engine, dir string, vmid int, run bool) error {
	g := engine.Guest{VMID: vmid, Hostname: fmt.Sprintf("app-%d", vmid), Template: "debian-12-standard_12.12-1_amd64.tar.zst", Unprivileged: true, MemoryMiB: 512}
	if err := e.Create(context.Background(), g, io.Discard); err != nil {
		return err
	}
	if run {
		if err := e.Start(context.Background(), g); err != nil {
			return err
		}
	}
	conf := fmt.Sprintf("arch: amd64\ncores: 1\nhostname: %s\nmemory: 512\nnet0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:%02X:%02X:%02X,ip=dhcp,type=veth\n"+
		"ostype: debian\nrootfs: local-lvm:vm-%d-disk-0,size=8G\nswap: 512\ntags: proximity;prx-%016x\nunprivileged: 1\n",
		g.Hostname, vmid>>16&0xff, vmid>>8&0xff, vmid&0xff, vmid, vmid)
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.conf", vmid)), []byte(conf), 0o600)
}
