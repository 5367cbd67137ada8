package controllers_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
)

// sdnSoup is a life of a Bridge by SDN in which everything happens to the cluster's network.
type sdnSoup struct {
	*world
	rand *rand.Rand
	// applied are the zones of others that their owners applied; staged are the others.
	applied, staged map[string]bool
	named           int
}

// TestSDNSoup ends every life with the Bridge as declared on every node, nothing of others
// touched, nothing of theirs applied that they did not apply; and after the deletion with
// nothing of ours.
func TestSDNSoup(t *testing.T) {
	lives, steps := 32, 25
	if full {
		lives = 1000
	}
	for seed := range lives {
		if !some(seed, 8) {
			continue
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inCluster(t, 4, func(w *world) {
				w.sdnStrangers()
				s := &sdnSoup{world: w, rand: rand.New(rand.NewPCG(uint64(seed), 7)), applied: map[string]bool{"theirs": true}, staged: map[string]bool{}}
				w.start()
				w.apply(sdnYAML(", sdn: {tag: 42}"))
				for range steps {
					s.step()
					for range s.rand.IntN(100) {
						time.Sleep(100 * time.Millisecond)
						s.check()
					}
				}
				s.calm()
				w.until("ready", func() bool { s.check(); return w.ready(sdnKey)() })
				w.settle()
				s.check()
				spec := w.bridge(sdnKey).GetSpec()
				var want []string
				for _, n := range w.node.Nodes() {
					if len(spec.GetNodes()) == 0 || slices.Contains(spec.GetNodes(), n.Name()) {
						want = append(want, n.Name())
					}
				}
				slices.Sort(want)
				at := w.bridgeAt("lan")
				if slices.Sort(at); !slices.Equal(at, want) {
					t.Errorf("the bridge is on %v, should be on %v\n%s", at, want, w.objects())
				}
				z := w.zone("lan")
				if int(z.MTU) != int(spec.GetMtu()) && !(spec.Mtu == nil && z.MTU == 1450) || z.DHCP != "" || len(strings.Split(z.Peers, ",")) != len(want) {
					t.Errorf("zone %+v for %v", z, spec)
				}
				changes, err := w.admin.SDNChanges(w.Context())
				w.must(err)
				if len(changes) > 0 {
					t.Errorf("left staged: %v", changes)
				}
				w.remove(sdnKey)
				w.until("gone", w.gone(sdnKey))
				if at := w.bridgeAt("lan"); len(at) > 0 {
					t.Errorf("left on %v", at)
				}
				if text := w.sdn(); strings.Contains(text, "lan ") && strings.Contains(text, "zone lan") {
					t.Errorf("left:\n%s", text)
				}
				s.check()
			})
		})
	}
}

// check demands that what others staged runs only when they applied it, and that what they
// applied is there.
func (s *sdnSoup) check() {
	s.Helper()
	zones, err := s.admin.SDNZones(s.Context(), proxmox.SDNRunning)
	s.must(err)
	have := map[string]bool{}
	for _, z := range zones {
		if z.Zone != "lan" {
			have[z.Zone] = true
		}
	}
	if !maps.Equal(have, s.applied) {
		s.Fatalf("zones of others that run: %v, applied were %v", have, s.applied)
	}
}

// calm ends what is wrong with the cluster, and what others left half done.
func (s *sdnSoup) calm() {
	s.Helper()
	s.node.Faults().Clear()
	for _, p := range s.peers {
		p.node.SetOnline(true)
	}
	for name := range s.staged {
		s.must(s.admin.DeleteSDNZone(s.Context(), name))
	}
	clear(s.staged)
	for _, n := range s.node.Nodes() {
		s.must(s.admin.RevertNetwork(s.Context(), n.Name()))
	}
}

func (s *sdnSoup) step() {
	steps := []func(){
		func() { s.restart() }, s.toggleNode, s.toggleNode, s.toggleNode, s.failReload, s.fault, s.fault,
		s.stageTheirs, s.applyTheirs, s.unstageTheirs, s.editZone, s.editZone, s.removeVNet, s.changeSpec, s.changeSpec, s.stageNetwork, s.rebootANode,
	}
	steps[s.rand.IntN(len(steps))]()
}

// toggleNode takes a node away, or gives it back; most stay.
func (s *sdnSoup) toggleNode() {
	p := s.peers[s.rand.IntN(len(s.peers))]
	away := 0
	for _, o := range s.peers {
		if !o.node.Online() {
			away++
		}
	}
	p.node.SetOnline(!p.node.Online() || away > 0)
}

func (s *sdnSoup) failReload() {
	node := s.node.Nodes()[s.rand.IntN(4)].Name()
	s.node.Faults().Add(pvesim.Fault{Method: "PUT", Path: "/nodes/" + node + "/network", Nth: 1 + s.rand.IntN(2), Action: pvesim.ActTaskFails, Text: "command 'ifreload -a' failed: exit code 1"})
}

func (s *sdnSoup) fault() {
	names := slices.Sorted(maps.Keys(sdnFailures))
	f := sdnFailures[names[s.rand.IntN(len(names))]]
	if f.Action == pvesim.ActOffline {
		return // that is toggleNode's
	}
	call := sdnCalls[s.rand.IntN(len(sdnCalls))]
	f.Method, f.Path, f.Nth = call.Method, call.Path, 1+s.rand.IntN(2)
	// Not for the administrator's own requests, whose outcome is to be known.
	if f.After || f.Method != "GET" && strings.HasPrefix(f.Path, "/cluster/sdn") && !strings.HasSuffix(f.Path, "/lan") {
		return
	}
	s.node.Faults().Add(f)
}

func (s *sdnSoup) stageTheirs() {
	s.named++
	name := fmt.Sprintf("their%d", s.named)
	if s.admin.CreateSDNZone(s.Context(), proxmox.SDNZone{Zone: name, Type: "simple"}) == nil {
		s.staged[name] = true
	}
}

// applyTheirs applies everything, as an administrator does who does not look.
func (s *sdnSoup) applyTheirs() {
	s.node.Faults().Clear()
	upid, err := s.admin.ApplySDN(s.Context())
	if err != nil {
		return
	}
	maps.Copy(s.applied, s.staged)
	clear(s.staged)
	_, _ = s.admin.WaitTask(s.Context(), upid.Node, upid)
}

func (s *sdnSoup) unstageTheirs() {
	for name := range s.staged {
		if s.admin.DeleteSDNZone(s.Context(), name) == nil {
			delete(s.staged, name)
		}
		return
	}
}

// editZone changes ours by hand, and perhaps does not apply it.
func (s *sdnSoup) editZone() {
	edits := []proxmox.SDNUpdate{
		{Set: map[string]string{"mtu": "1280"}}, {Set: map[string]string{"peers": "192.168.50.2"}},
		{Set: map[string]string{"nodes": "pve"}}, {Delete: []string{"mtu"}},
	}
	_ = s.admin.UpdateSDNZone(s.Context(), "lan", edits[s.rand.IntN(len(edits))])
	if s.rand.IntN(2) == 0 {
		s.applyTheirs()
	}
}

func (s *sdnSoup) removeVNet() {
	_ = s.admin.DeleteSDNVNet(s.Context(), "lan")
	if s.rand.IntN(2) == 0 {
		s.applyTheirs()
	}
}

func (s *sdnSoup) changeSpec() {
	s.updateBridge(sdnKey, func(spec *v1alpha1.BridgeSpec) {
		switch s.rand.IntN(4) {
		case 0:
			spec.Mtu = proto.Int32(1300 + int32(s.rand.IntN(100)))
		case 1:
			spec.Mtu = nil
		case 2:
			spec.Sdn.Tag = proto.Int32(40 + int32(s.rand.IntN(5)))
		case 3:
			spec.Nodes = [][]string{nil, {"pve", "pve2"}, {"pve2", "pve3", "pve4"}}[s.rand.IntN(3)]
		}
	})
}

// stageNetwork stages a change of a node's own network.
func (s *sdnSoup) stageNetwork() {
	node := s.node.Nodes()[s.rand.IntN(4)].Name()
	if s.rand.IntN(2) == 0 {
		_ = s.admin.RevertNetwork(s.Context(), node)
		return
	}
	_ = s.admin.CreateNetwork(s.Context(), node, proxmox.InterfaceSpec{Iface: "vmbr7", Type: "bridge"})
}

func (s *sdnSoup) rebootANode() {
	n := s.node.Nodes()[s.rand.IntN(4)]
	s.must(n.Shutdown(s.Context()))
	s.must(n.Boot(s.Context()))
}
