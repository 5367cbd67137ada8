package controllers_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// soup is a life in which everything happens: users, administrators, failures, crashes.
type soup struct {
	*world
	rand  *rand.Rand
	extra int
}

// TestSoup ends every life, whatever happened in it, with everything as declared, one guest
// for each object, nothing of others touched; and after the deletion with nothing.
func TestSoup(t *testing.T) {
	lives, steps := 8, 40
	if full {
		lives = 400
	}
	for seed := range lives {
		if !some(seed, lives) {
			continue
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.strangers()
				empty := w.portrait()
				check := w.untouched(500)
				s := &soup{world: w, rand: rand.New(rand.NewPCG(uint64(seed), 1))}
				w.start()
				w.apply(w.quickstart())
				for range steps {
					s.step()
					time.Sleep(time.Duration(s.rand.IntN(8000)) * time.Millisecond)
				}
				w.node.Faults().Clear()
				s.state("Running")
				s.quiet()
				check()
				keys := s.all()
				w.remove(keys...)
				w.until("everything gone", w.gone(keys...))
				if now := w.portrait(); now != empty {
					t.Errorf("left on the node:\n%s", diffLines(now, empty))
				}
			})
		})
	}
}

// all lists the objects that there are.
func (s *soup) all() (keys []resource.Key) {
	for _, kind := range []string{"Vhost", "App", "Appliance", "Bridge"} {
		for _, o := range s.list(kind) {
			keys = append(keys, resource.KeyOf(o))
		}
	}
	return keys
}

// quiet waits until everything is as declared, and counts the guests.
func (s *soup) quiet() {
	s.Helper()
	s.until("everything ready", func() bool {
		for _, key := range s.all() {
			if resource.Deleting(s.get(key)) || !s.ready(key)() {
				return false
			}
		}
		return true
	})
	s.settle()
	want := map[int]bool{500: true, applianceID: true}
	for _, o := range s.list("App") {
		want[int(o.(*v1alpha1.App).GetStatus().GetVmid())] = true
	}
	have := map[int]bool{}
	for _, g := range s.engine.Guests() {
		have[g.VMID()] = true
	}
	if !maps.Equal(want, have) {
		s.Errorf("guests %v, want %v", slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want)))
	}
}

func (s *soup) step() {
	steps := []func(){
		s.crash, s.stopGuest, s.destroyGuest, s.editGuest, s.cutBridge, s.fault, s.fault,
		s.another, s.another, s.oneLess, s.toggleState, s.harmAppliance, s.rebootNode, s.moveVhost,
	}
	steps[s.rand.IntN(len(steps))]()
}

func (s *soup) crash() { s.restart() }

// someGuest is one of ours.
func (s *soup) someGuest() int {
	vmids := []int{applianceID}
	for _, o := range s.list("App") {
		if id := int(o.(*v1alpha1.App).GetStatus().GetVmid()); id != 0 {
			vmids = append(vmids, id)
		}
	}
	return vmids[s.rand.IntN(len(vmids))]
}

// try does what an administrator does; it may be refused, as things change meanwhile.
func (s *soup) try(upid proxmox.UPID, err error) {
	if err == nil {
		_, _ = s.admin.WaitTask(s.Context(), nodeName, upid)
	}
}

func (s *soup) stopGuest() { s.try(s.admin.StopLXC(s.Context(), nodeName, s.someGuest())) }

func (s *soup) destroyGuest() {
	s.try(s.admin.DeleteLXC(s.Context(), nodeName, s.someGuest(), proxmox.LXCDelete{Purge: true, Force: true}))
}

func (s *soup) editGuest() {
	edits := []map[string]string{
		{"memory": "77"}, {"tags": "x;y"}, {"hostname": "other"}, {"onboot": "0"},
		{"net0": "name=eth0,bridge=vmbr0,ip=dhcp,hwaddr=BC:24:11:00:00:01"},
	}
	_ = s.admin.UpdateLXC(s.Context(), nodeName, s.someGuest(), proxmox.LXCUpdate{Set: edits[s.rand.IntN(len(edits))]})
}

func (s *soup) cutBridge() {
	if at := bytes.Index([]byte(s.interfaces()), []byte("# proximity:begin")); at >= 0 {
		s.editInterfaces(func(was []byte) []byte { return append(bytes.TrimSpace(was[:at]), '\n') })
	}
}

func (s *soup) fault() {
	names := slices.Sorted(maps.Keys(failures))
	f := failures[names[s.rand.IntN(len(names))]]
	f.Method = []string{"", "POST", "PUT", "DELETE", "GET"}[s.rand.IntN(5)]
	f.Path = "/nodes"
	f.Nth = 1 + s.rand.IntN(5)
	s.node.Faults().Add(f)
}

// another is one more App with a name of its own.
func (s *soup) another() {
	s.extra++
	name := fmt.Sprintf("extra-%d", s.extra)
	s.apply(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec: {packages: [nginx], ports: [{name: http, port: 80}]}\n", name))
	if s.rand.IntN(2) == 0 {
		s.apply(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: Vhost\nmetadata: {name: %s}\nspec: {hosts: [%s.prox.local], rules: [{path: /, backends: [{appRef: {name: %s, port: http}}]}]}\n", name, name, name))
	}
}

func (s *soup) oneLess() {
	name := fmt.Sprintf("extra-%d", 1+s.rand.IntN(s.extra+1))
	for _, key := range []resource.Key{vhostKeyOf(name), appKeyOf(name)} {
		if o := s.get(key); o != nil && !resource.Deleting(o) {
			s.remove(key)
		}
	}
}

func (s *soup) toggleState() { s.state([]string{"Running", "Stopped"}[s.rand.IntN(2)]) }

func (s *soup) state(want string) {
	a := resource.Clone(s.app("nginx-01"))
	a.Spec.State = proto.String(want)
	a.Metadata.ResourceVersion = ""
	_, err := s.applier.Update(s.Context(), a)
	s.must(err)
}

func (s *soup) harmAppliance() {
	g, ok := s.engine.Guest(applianceID)
	if !ok {
		return
	}
	switch s.rand.IntN(3) {
	case 0:
		s.sim.FlushRules(g)
	case 1:
		g.KillUnit(appliance.UnitDNSMasq)
	case 2:
		g.KillUnit(appliance.UnitCaddy)
	}
}

func (s *soup) rebootNode() {
	s.must(s.node.Shutdown(s.Context()))
	s.must(s.node.Boot(s.Context()))
}

func (s *soup) moveVhost() {
	v := resource.Clone(s.get(vhostKey)).(*v1alpha1.Vhost)
	v.Spec.Hosts = []string{"nginx-01.prox.local", fmt.Sprintf("h%d.prox.local", s.rand.IntN(5))}
	v.Metadata.ResourceVersion = ""
	_, err := s.applier.Update(s.Context(), v)
	s.must(err)
}
