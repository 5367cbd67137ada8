package controllers_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// ask creates an operation on the quickstart's appliance or App.
func (w *world) ask(name, action, kind, timeout string, arguments map[string]string) resource.Key {
	w.Helper()
	ref := &v1alpha1.ObjectReference{Kind: proto.String(kind), Name: proto.String("proximity")}
	key := resource.Key{Kind: "Operation", Namespace: resource.SystemNamespace, Name: name}
	if kind == "App" {
		ref.Name, ref.Namespace, key.Namespace = proto.String("nginx-01"), proto.String("default"), "default"
	}
	spec := &v1alpha1.OperationSpec{Action: proto.String(action), Target: ref, Arguments: arguments}
	if timeout != "" {
		spec.Timeout = proto.String(timeout)
	}
	_, err := w.applier.Create(w.Context(), &v1alpha1.Operation{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Operation"),
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: key.Namespace}, Spec: spec,
	})
	w.must(err)
	return key
}

func (w *world) operation(key resource.Key) *v1alpha1.OperationStatus {
	w.Helper()
	o := w.get(key)
	if o == nil {
		return nil
	}
	return o.(*v1alpha1.Operation).GetStatus()
}

// ended tells whether the operation came to an end of that phase and reason.
func (w *world) ended(key resource.Key, phase, reason string) func() bool {
	return func() bool {
		return w.operation(key).GetPhase() == phase && w.has(key, "Complete", "True", reason)()
	}
}

// TestLogsGoOn: what was read is not read again, and a filter is one.
func TestLogsGoOn(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		read := func(name string, arguments map[string]string) *v1alpha1.OperationStatus {
			key := w.ask(name, "CollectLogs", "Appliance", "", arguments)
			w.until(name, w.ended(key, "Succeeded", "Succeeded"))
			return w.operation(key)
		}
		all := read("first", map[string]string{"service": "dnsmasq"})
		cursor := all.GetResult()["cursor"]
		if len(all.GetLog()) == 0 || cursor == "" || strings.Contains(all.GetLog()[len(all.GetLog())-1], "cursor") {
			t.Fatalf("log %q, result %v", all.GetLog(), all.GetResult())
		}
		if again := read("second", map[string]string{"service": "dnsmasq", "after": cursor}); len(again.GetLog()) != 0 || again.GetResult()["cursor"] != cursor {
			t.Errorf("again: %q, %v", again.GetLog(), again.GetResult())
		}
		key := w.ask("restart", "RestartAppliance", "Appliance", "", map[string]string{"service": "dnsmasq"})
		w.until("restart", w.ended(key, "Succeeded", "Succeeded"))
		more := read("third", map[string]string{"service": "dnsmasq", "after": cursor})
		if n := len(more.GetLog()); n == 0 || more.GetResult()["cursor"] == cursor {
			t.Errorf("after a restart: %q, %v", more.GetLog(), more.GetResult())
		}
		if some := read("fourth", map[string]string{"service": "dnsmasq", "contains": "no such words"}); len(some.GetLog()) != 0 {
			t.Errorf("filtered: %q", some.GetLog())
		}
	})
}

// restarts counts how often the agent was told to restart something.
func (w *world) restarts() (n int) {
	for _, c := range w.ledger.all() {
		if strings.Contains(c.what, "agent restart") {
			n++
		}
	}
	return n
}

func restartPoint(w *world) point {
	return point{fmt.Sprintf("guest %d: /bin/sh /usr/local/lib/proximity/agent restart dnsmasq", applianceID), 1}
}

var dnsmasq = map[string]string{"service": "dnsmasq"}

func TestOperationRunsOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		key := w.ask("once", "RestartAppliance", "Appliance", "", dnsmasq)
		w.until("succeeded", w.ended(key, "Succeeded", "Succeeded"))
		w.mustTell(key, "Succeeded")
		labelled := resource.Clone(w.get(key))
		labelled.GetMetadata().Labels = map[string]string{"a": "b"}
		_, err := w.applier.Update(w.Context(), labelled)
		w.must(err)
		w.restart()
		time.Sleep(time.Minute)
		if n := w.restarts(); n != 1 {
			t.Errorf("it ran %d times", n)
		}
		w.until("everything ready", w.ready(quickstartKeys...))
	})
}

// One that waits for its target survives a crash; one that had begun does not run again.
func TestOperationAndCrash(t *testing.T) {
	t.Run("waiting", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.start()
			w.apply(strings.Split(w.quickstart(), "\n---\n")[1]) // an appliance without its bridge
			key := w.ask("op", "RestartAppliance", "Appliance", "10m", dnsmasq)
			w.until("pending", func() bool { return w.operation(key).GetPhase() == "Pending" })
			w.restart()
			w.apply(w.quickstart())
			w.until("quickstart ready", w.ready(quickstartKeys...))
			w.until("succeeded", w.ended(key, "Succeeded", "Succeeded"))
			if n := w.restarts(); n != 1 {
				t.Errorf("it ran %d times", n)
			}
		})
	})
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("under way, after=%v", after), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.deployed()
				w.daemon.stop()
				var key resource.Key
				w.die(restartPoint(w), after, func() { key = w.ask("op", "RestartAppliance", "Appliance", "", dnsmasq) })
				w.start()
				w.until("told", w.ended(key, "Failed", "Interrupted"))
				time.Sleep(time.Minute)
				if n := w.restarts(); n != 1 {
					t.Errorf("%d attempts", n)
				}
				w.until("everything ready", w.ready(quickstartKeys...))
			})
		})
	}
}

// slowJournal makes reading an App's log take its time.
func (w *world) slowJournal(d time.Duration) {
	w.engine.Register("journalctl", func(ctx context.Context, p *mem.Process) int {
		select {
		case <-ctx.Done():
			return 1
		case <-time.After(d):
			fmt.Fprintln(p.Stdout, "a line")
			return 0
		}
	})
}

func TestOperationThatTakesLong(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.slowJournal(20 * time.Second)
		slow := w.ask("slow", "CollectLogs", "App", "", nil)
		w.until("running", func() bool { return w.operation(slow).GetPhase() == "Running" })
		w.until("succeeded", w.ended(slow, "Succeeded", "Succeeded"))
		if log := w.operation(slow).GetLog(); len(log) != 1 || log[0] != "a line" {
			t.Errorf("log %q", log)
		}
		hasty := w.ask("hasty", "CollectLogs", "App", "5s", nil)
		w.within(10*time.Second, "timed out", w.ended(hasty, "Failed", "TimedOut"))

		// A daemon that is stopped on purpose leaves the same as one that is killed.
		stopped := w.ask("stopped", "CollectLogs", "App", "", nil)
		w.until("running", func() bool { return w.operation(stopped).GetPhase() == "Running" })
		w.daemon.stop()
		w.start()
		w.until("told", w.ended(stopped, "Failed", "Interrupted"))
	})
}

func TestOperationWithoutTarget(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.until("told", w.ended(w.ask("op", "RestartAppliance", "Appliance", "", nil), "Failed", "TargetNotFound"))
	})
}

// Ended operations are kept for a day, and not more than a hundred of a namespace.
func TestOperationsAreForgotten(t *testing.T) {
	inWorld(t, func(w *world) {
		w.remove(resource.Key{Kind: "Cluster", Name: cluster.DefaultName}) // nothing to look at all day
		w.start()
		for i := range 120 {
			key := w.ask(fmt.Sprintf("op-%03d", i), "RestartAppliance", "Appliance", "", nil)
			w.until("ended", w.ended(key, "Failed", "TargetNotFound"))
			time.Sleep(time.Second)
		}
		w.within(time.Minute, "a hundred kept", func() bool { return len(w.list("Operation")) == 100 })
		if w.get(resource.Key{Kind: "Operation", Namespace: resource.SystemNamespace, Name: "op-119"}) == nil {
			t.Error("the newest was forgotten")
		}
		time.Sleep(25 * time.Hour)
		if n := len(w.list("Operation")); n != 0 {
			t.Errorf("%d are kept for more than a day", n)
		}
	})
}

// An examination finds what is wrong with a connection and changes nothing.
func TestExamine(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		w.must(w.admin.CreateNetwork(w.Context(), nodeName, proxmox.InterfaceSpec{Iface: "vmbr7", Type: "bridge", Autostart: true}))
		writes := w.node.Stats().Writes
		op := &v1alpha1.Operation{
			ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Operation"),
			Metadata: &v1alpha1.ObjectMeta{Namespace: resource.SystemNamespace, Name: "examine"},
			Spec: &v1alpha1.OperationSpec{
				Action: proto.String("Examine"), Target: &v1alpha1.ObjectReference{Kind: proto.String("Cluster"), Name: proto.String("default")},
			},
		}
		_, err := w.applier.Create(w.Context(), op)
		w.must(err)
		key := resource.KeyOf(op)
		w.until("examined", w.ended(key, "Succeeded", "Succeeded"))
		found := map[string]string{}
		for _, c := range w.operation(key).GetChecks() {
			found[c.GetName()] = c.GetStatus()
		}
		if len(found) < 10 || found["API"] != "Pass" || found["NetworkStaged"] != "Fail" || found["GuestAccess"] != "Pass" {
			t.Errorf("found %v", found)
		}
		if n := w.node.Stats().Writes - writes; n != 0 {
			t.Errorf("%d writes to the node", n)
		}
	})
}
