package controllers_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// What must hold when a soup has come to rest.

// rest waits until every object is as declared, or says by name why it cannot be.
func (s *soup) rest() {
	s.Helper()
	for begin := time.Now(); ; time.Sleep(time.Second) {
		open := s.open()
		if open == nil {
			time.Sleep(soupLook)
			if open = s.open(); open == nil {
				s.note("", "all is at rest, %s after the trouble", time.Since(begin).Round(time.Second))
				return
			}
		}
		if time.Since(begin) > soupPatience {
			s.Fatalf("not at rest within %s:\n%s", soupPatience, strings.Join(open, "\n"))
		}
		if time.Since(begin) > 20*time.Second {
			s.unlockAll()
		}
	}
}

// unlockAll does what conditions tell a human to do about guests that a task left locked.
func (s *soup) unlockAll() bool {
	for _, g := range s.guests() {
		if g.config.Lock == "" || s.foreign[g.vmid] != nil {
			continue
		}
		running, err := s.admin.ClusterTasks(s.Context())
		s.must(err)
		busy := false
		for _, t := range running {
			id, ok := t.UPID.VMID()
			busy = busy || ok && id == g.vmid && t.End == 0
		}
		if busy {
			continue
		}
		s.note("guests unlocked", "%d", g.vmid)
		for i, n := range s.node.Nodes() {
			if n.Name() == g.node {
				sh := s.shellOf(i)
				_, _ = sh.Exec(s.Context(), g.node, []string{"pct", "unlock", strconv.Itoa(g.vmid)}, nil, 0)
				_ = sh.Close()
			}
		}
	}
	return false
}

// open lists what is neither as declared nor says why not.
func (s *soup) open() (open []string) {
	for _, o := range s.list("Operation") {
		if p := o.(*v1alpha1.Operation).GetStatus().GetPhase(); p != "Succeeded" && p != "Failed" {
			open = append(open, fmt.Sprintf("%s is %s", resource.KeyOf(o), p))
		}
	}
	for _, key := range append(s.keys(), resource.Key{Kind: "Cluster", Name: "default"}) {
		o := s.get(key)
		if o == nil || !resource.Deleting(o) && s.ready(key)() || s.excused(o) != "" {
			continue
		}
		c := resource.FindCondition(o, "Ready")
		open = append(open, fmt.Sprintf("%s (deleted %v): Ready %s, %s: %s", key, resource.Deleting(o), c.GetStatus(), c.GetReason(), c.GetMessage()))
	}
	if open == nil {
		open = s.differs()
	}
	return open
}

// excused is the reason for which an object may stay as it is, when that holds; "" is none.
func (s *soup) excused(o resource.Object) string {
	if c := resource.FindCondition(o, "Stalled"); c.GetStatus() == "True" && s.mayStall(o, c.GetReason()) {
		return c.GetReason()
	}
	reason := resource.FindCondition(o, "Ready").GetReason()
	switch o := o.(type) {
	case *v1alpha1.App:
		if reason == "Suspended" && o.GetSpec().GetSuspend() {
			return reason
		}
		appliance, _ := s.get(applianceKey).(*v1alpha1.Appliance)
		switch reason {
		case "NetworkNotReady", "Unhealthy": // its policy leaves the NIC as somebody made it
			if c := resource.FindCondition(o, "InSync"); c.GetStatus() == "False" && strings.Contains(c.GetMessage(), "net0") {
				return reason
			}
			// A rebuild did not know the address of a guest that was stopped then.
			if c := resource.FindCondition(o, "NetworkReady"); s.lost && c.GetReason() == "WrongAddress" {
				return reason
			}
		case "AddressConflict":
			if s.addressOfAnother(o) {
				return reason
			}
		case "ApplianceOnOtherNode":
			if !s.sdn && appliance.GetStatus().GetNode() != o.GetStatus().GetNode() {
				return reason
			}
		case "ApplianceNotReady", "ApplianceNotFound", "BridgeNotOnNode", "NotServed":
			return s.because(reason, applianceKey)
		}
	case *v1alpha1.Appliance:
		switch reason {
		case "InUse":
			return s.because(reason, slices.DeleteFunc(s.keys(), func(k resource.Key) bool { return k.Kind != "App" && k.Kind != "Vhost" })...)
		case "BridgeNotReady", "BridgeNotFound":
			return s.because(reason, bridgeKey)
		}
	case *v1alpha1.Bridge:
		switch reason {
		case "InUse":
			return s.because(reason, applianceKey)
		case "GuestsAttached":
			for _, g := range s.guests() {
				if strings.Contains(g.config.Value("net0")+g.config.Value("net1"), "bridge="+o.GetSpec().GetInterfaceName()) {
					return reason
				}
			}
		}
	case *v1alpha1.Vhost:
		switch reason {
		case "BackendsNotFound", "BackendFailed":
			for _, rule := range o.GetSpec().GetRules() {
				for _, b := range rule.GetBackends() {
					app := s.appObject(b.GetAppRef().GetName())
					if app == nil || app.GetSpec().GetState() == "Stopped" || !resource.IsReady(app) {
						return reason
					}
					if len(app.GetSpec().GetPorts()) == 0 {
						return reason
					}
				}
			}
		case "ApplianceNotReady", "ApplianceNotFound", "NotProgrammed":
			return s.because(reason, applianceKey)
		}
	}
	return ""
}

// addressOfAnother tells whether a guest that is not ours any more has an App's address. One
// that still carries our tags keeps its address; of one that lost them nothing is known.
func (s *soup) addressOfAnother(a *v1alpha1.App) bool {
	for _, g := range s.guests() {
		for _, e := range s.engines() {
			other, ok := e.Guest(g.vmid)
			if ok && g.vmid != int(a.GetStatus().GetVmid()) && !slices.Contains(g.config.Tags(), ownership.Tag) &&
				strings.HasPrefix(other.Address("eth0"), a.GetStatus().GetAddress()+"/") {
				return true
			}
		}
	}
	return false
}

// because accepts a reason when one of the objects that it refers to is not well either.
func (s *soup) because(reason string, keys ...resource.Key) string {
	for _, key := range keys {
		o := s.get(key)
		if key == applianceKey && o == nil || o != nil && (!resource.IsReady(o) || resource.Deleting(o)) {
			return reason
		}
		if key.Kind == "Vhost" || key.Kind == "App" {
			if o != nil {
				return reason
			}
		}
	}
	return ""
}

// mayStall tells whether what an object is stalled for is so.
func (s *soup) mayStall(o resource.Object, reason string) bool {
	vmid := 0
	switch o := o.(type) {
	case *v1alpha1.App:
		vmid = max(int(o.GetStatus().GetVmid()), int(o.GetSpec().GetVmid()))
	case *v1alpha1.Appliance:
		vmid = applianceID
	}
	var at *soupGuest
	for _, g := range s.guests() {
		if g.vmid == vmid {
			at = &g
		}
	}
	switch reason {
	case "VMIDTaken":
		return at == nil || s.foreign[vmid] != nil || s.left[vmid] || at.mark == nil // nil: reserved for another App
	case "UIDUnknown":
		return s.lost
	case "UIDElsewhere":
		tag := ownership.UIDTag(o.GetMetadata().GetUid())
		for id := range maps.Keys(s.foreign) {
			if _, config, _ := s.lookAt(id); at == nil && strings.Contains(config, tag) {
				return true
			}
		}
	case "Protected":
		return at != nil && at.config.Bool("protection")
	case "Conflict":
		return true // another Vhost has the name
	case "InterfaceTaken":
		return o.(*v1alpha1.Bridge).GetSpec().GetInterfaceName() == "theirs"
	case "GuestToAdoptMissing":
		return at == nil && o.(*v1alpha1.App).GetSpec().GetAdopt()
	case "ReadOnly":
		return o.(*v1alpha1.App).GetSpec().GetReadOnly()
	}
	return false
}

// check demands that nothing of others was touched.
func (s *soup) check() {
	s.Helper()
	for _, vmid := range slices.Sorted(maps.Keys(s.foreign)) {
		s.foreign[vmid]()
	}
	if !s.hasBridge("theirs") || strings.Count(s.interfaces(), "iface theirs ") != 1 {
		s.Errorf("somebody's bridge is gone:\n%s", s.interfaces())
	}
	if s.sdn {
		s.checkTheirSDN()
	}
}

// differs compares what there is outside with what there should be.
func (s *soup) differs() (problems []string) {
	s.Helper()
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	byVMID := map[int]soupGuest{}
	for _, g := range s.guests() {
		if other, twice := byVMID[g.vmid]; twice {
			problem("guest %d is on %s and on %s", g.vmid, other.node, g.node)
		}
		byVMID[g.vmid] = g
	}
	explained := map[int]bool{}
	for _, o := range append(s.list("App"), s.list("Appliance")...) {
		s.checkGuest(o, byVMID, explained, problem)
	}
	for vmid, g := range byVMID {
		if !explained[vmid] && s.foreign[vmid] == nil && !s.left[vmid] {
			problem("guest %d on %s is nobody's: %v", vmid, g.node, g.mark)
		}
	}
	for _, o := range s.list("Bridge") {
		b := o.(*v1alpha1.Bridge)
		iface := b.GetSpec().GetInterfaceName()
		if b.GetSpec().GetBackend() == "sdn" {
			if at := s.bridgeAt(iface); resource.IsReady(b) && (len(at) != len(s.node.Nodes()) || s.ourSDN() != "zone proxlan, vnet proxlan") {
				problem("bridge %s is on %v and made of %s", iface, at, s.ourSDN())
			}
			continue
		}
		if n := strings.Count(s.interfaces(), "iface "+iface+" "); resource.IsReady(b) && (n != 1 || !s.hasBridge(iface)) {
			problem("bridge %s is defined %d times", iface, n)
		}
	}
	return problems
}

// checkGuest compares the guest of one object.
func (s *soup) checkGuest(o resource.Object, all map[int]soupGuest, explained map[int]bool, problem func(format string, args ...any)) {
	s.Helper()
	key, uid := resource.KeyOf(o), o.GetMetadata().GetUid()
	var vmid, memory int
	running, drift := true, "correct"
	switch o := o.(type) {
	case *v1alpha1.App:
		vmid, running, drift = int(o.GetStatus().GetVmid()), o.GetSpec().GetState() != "Stopped", o.GetSpec().GetDriftPolicy()
		memory, _ = strconv.Atoi(strings.TrimSuffix(o.GetSpec().GetResources().GetMemory(), "Mi"))
	case *v1alpha1.Appliance:
		vmid = int(o.GetStatus().GetVmid())
		memory, _ = strconv.Atoi(strings.TrimSuffix(o.GetSpec().GetResources().GetMemory(), "Mi"))
	}
	for id, g := range all {
		if g.mark != nil && g.mark.UID == uid && id != vmid && s.foreign[id] == nil && !s.left[id] {
			problem("%s has guest %d beside %d", key, id, vmid)
		}
	}
	g, there := all[vmid]
	explained[vmid] = there
	if !resource.IsReady(o) {
		return
	}
	if !there {
		problem("%s is ready and its guest %d is not there", key, vmid)
		return
	}
	if g.mark == nil || g.mark.UID != uid || g.mark.VMID != vmid || !slices.Contains(g.config.Tags(), ownership.UIDTag(uid)) {
		problem("%s is ready and its guest %d has the mark %v and the tags %v", key, vmid, g.mark, g.config.Tags())
	}
	if g.running != running {
		problem("%s is ready and its guest %d runs: %v", key, vmid, g.running)
	}
	if got := g.config.Value("memory"); (drift == "" || drift == "correct") && got != strconv.Itoa(memory) {
		problem("%s is ready and its guest %d has memory %s, want %d", key, vmid, got, memory)
	}
}
