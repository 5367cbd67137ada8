package controllers_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// What users do in a soup: they apply, change and delete manifests of all kinds.

// soupApp is an App as its user wants it.
type soupApp struct {
	name                             string
	memory, vmid                     int
	web, stopped, secret             bool
	suspend, orphan, adopt, readOnly bool
	file, drift, address, node       string
}

func (a *soupApp) key() resource.Key { return appKeyOf(a.name) }

// manifest is the App's YAML.
func (a *soupApp) manifest() string {
	var b strings.Builder
	put := func(when bool, format string, args ...any) {
		if when {
			fmt.Fprintf(&b, "  "+format+"\n", args...)
		}
	}
	fmt.Fprintf(&b, "apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec:\n", a.name)
	put(true, "resources: {memory: %dMi, disk: 1Gi}", a.memory)
	put(a.web, "packages: [nginx]\n  ports: [{name: http, port: 80}]")
	put(a.stopped, "state: Stopped")
	put(a.suspend, "suspend: true")
	put(a.orphan, "deletionPolicy: Orphan")
	put(a.vmid != 0, "vmid: %d", a.vmid)
	put(a.adopt, "adopt: true")
	put(a.adopt, "readOnly: %v", a.readOnly)
	put(a.drift != "", "driftPolicy: %s", a.drift)
	put(a.node != "", "node: %s", a.node)
	put(a.address != "", "network: {address: %s}", a.address)
	put(a.file != "", "files: [{path: /etc/motd, content: %q}]", a.file)
	put(a.secret, "env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: soup, key: password}}}]")
	return b.String()
}

// try applies a manifest as a user does, who may be refused.
func (s *soup) try(yaml string) bool {
	s.Helper()
	docs, err := resource.DecodeDocuments(s.registry, "soup.yaml", []byte(yaml))
	s.must(err)
	results, err := s.applier.ApplySet(s.Context(), docs, apply.Options{Manager: "soup"})
	if err != nil {
		s.note("", "refused: %v", err)
		return false
	}
	_ = results
	return true
}

// put applies a manifest that is to be kept.
func (s *soup) put(key resource.Key, yaml string) {
	s.Helper()
	if s.try(yaml) {
		s.manifests[key] = yaml
	}
}

func (s *soup) applyApp(a *soupApp) {
	s.note("apps applied", "%s", strings.ReplaceAll(strings.SplitN(a.manifest(), "\n", 3)[2], "\n", ";"))
	s.put(a.key(), a.manifest())
}

func (s *soup) firstManifests() {
	iface := pick(s, []string{"proximity-lan", "proxlan"})
	set := strings.Replace(s.quickstart(), "interfaceName: proximity-lan", "interfaceName: "+iface, 1)
	if s.sdn {
		iface, set = "proxlan", s.sdnQuickstart()
	}
	s.note("", "bridge %s, %d nodes, by SDN %v", iface, 1+len(s.peers), s.sdn)
	for _, doc := range strings.Split(set, "\n---\n") {
		for _, key := range quickstartKeys {
			if strings.Contains(doc, "kind: "+key.Kind+"\n") {
				s.manifests[key] = doc
			}
		}
	}
	a := &soupApp{name: "nginx-01", memory: 256, web: true}
	s.apps[a.name] = a
	s.manifests[a.key()] = a.manifest()
	s.put(resource.Key{Kind: "Secret", Namespace: "default", Name: "soup"},
		"apiVersion: proximity/v1alpha1\nkind: Secret\nmetadata: {name: soup}\nspec: {stringData: {password: first}}\n")
	for _, key := range s.inOrder() {
		s.try(s.manifests[key])
		if s.rand.IntN(3) == 0 {
			s.pause()
		}
	}
}

func (s *soup) userSteps() []weighted {
	return []weighted{
		{6, s.anotherApp}, {6, s.changeSomeApp}, {4, s.deleteApp}, {2, s.replaceApp}, {2, s.changeSomeVhost}, {1, s.changeTheAppliance},
		{1, s.changeBridge}, {1, s.anotherBridge}, {1, s.changeSecret}, {1, s.operate}, {1, s.adoptApp},
	}
}

func (s *soup) anotherApp() {
	if len(s.apps) > 4 {
		return
	}
	s.next++
	a := &soupApp{name: fmt.Sprintf("app-%d", s.next), memory: 128, web: s.rand.IntN(2) == 0, secret: s.rand.IntN(5) == 0, drift: pick(s, []string{"", "", "warn", "ignore"})}
	switch s.rand.IntN(8) {
	case 0:
		a.vmid = 300 + s.next
	case 1:
		a.vmid = 500 // somebody's
	case 2:
		a.address = fmt.Sprintf("10.20.0.%d", 50+s.next)
	case 3:
		a.orphan = true
	}
	if s.sdn {
		a.node = pick(s, append([]string{""}, s.nodeNames()...))
	}
	s.apps[a.name] = a
	s.applyApp(a)
	if a.web && s.rand.IntN(2) == 0 {
		s.put(vhostKeyOf(a.name), vhostFor(a.name, a.name+".prox.local"))
	}
}

func vhostFor(name, host string) string {
	return fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: Vhost\nmetadata: {name: %s}\nspec: {hosts: [%s], rules: [{path: /, backends: [{appRef: {name: %s, port: http}}]}]}\n", name, host, name)
}

// someApp is one that a user still wants, nil if there is none.
func (s *soup) someApp() *soupApp {
	names := slices.Sorted(maps.Keys(s.apps))
	if len(names) == 0 {
		return nil
	}
	return s.apps[pick(s, names)]
}

func (s *soup) changeSomeApp() {
	a := s.someApp()
	if a == nil {
		return
	}
	switch s.rand.IntN(7) {
	case 0:
		a.memory = 64 * (2 + s.rand.IntN(4))
	case 1:
		a.stopped = !a.stopped
	case 2:
		a.file = fmt.Sprintf("hello %d\n", s.rand.IntN(100))
	case 3:
		a.drift = pick(s, []string{"", "correct", "warn", "ignore"})
	case 4:
		a.suspend = !a.suspend
	case 5:
		a.secret = !a.secret
	case 6:
		a.readOnly = a.adopt && !a.readOnly
		if a.adopt && !a.readOnly {
			delete(s.foreign, a.vmid)
		}
	}
	s.applyApp(a)
}

// deleteApp deletes one; its Vhost may go before, after or not at all.
func (s *soup) deleteApp() {
	a := s.someApp()
	if a == nil {
		return
	}
	s.forget(a)
	if s.rand.IntN(3) > 0 {
		s.deleteKey(vhostKeyOf(a.name))
		if a.name == "nginx-01" {
			s.deleteKey(vhostKey)
		}
	}
}

func (s *soup) forget(a *soupApp) {
	delete(s.apps, a.name)
	s.deleteKey(a.key())
}

// letGo notes the guests that are nobody's when an object is deleted now: that of one which
// leaves it behind, and those of its name that a database does not know which was lost.
func (s *soup) letGo(key resource.Key) {
	o := s.get(key)
	if app, ok := o.(*v1alpha1.App); ok && app.GetSpec().GetDeletionPolicy() == "Orphan" {
		s.left[int(app.GetStatus().GetVmid())] = true
	}
	for _, g := range s.ours() {
		if s.lost && g.mark.Kind == key.Kind && g.mark.Name == key.Name && g.mark.UID != o.GetMetadata().GetUid() {
			s.left[g.vmid] = true
		}
	}
}

func (s *soup) deleteKey(key resource.Key) {
	delete(s.manifests, key)
	if o := s.get(key); o != nil && !resource.Deleting(o) {
		s.note("objects deleted", "%s", key)
		s.letGo(key)
		if _, err := s.applier.Delete(s.Context(), key, store.Preconditions{}); err != nil {
			s.note("", "refused: %v", err)
		}
	}
}

// replaceApp deletes an App and makes another of its name at once.
func (s *soup) replaceApp() {
	a := s.someApp()
	if a == nil || a.orphan || a.adopt || a.suspend {
		return
	}
	s.forget(a)
	s.until("the name is free", func() bool {
		o := s.get(a.key())
		return o == nil || resource.FindCondition(o, "Stalled").GetStatus() == "True" || s.unlockAll() || s.rand.IntN(40) == 0
	})
	if s.get(a.key()) == nil {
		s.apps[a.name] = a
		s.applyApp(a)
	}
}

func (s *soup) changeSomeVhost() {
	keys := slices.DeleteFunc(s.inOrder(), func(k resource.Key) bool { return k.Kind != "Vhost" })
	if len(keys) == 0 {
		return
	}
	key := pick(s, keys)
	app := strings.TrimSuffix(key.Name, ".prox.local")
	host := pick(s, []string{app + ".prox.local", "shared.prox.local", fmt.Sprintf("h%d.prox.local", s.rand.IntN(3))})
	s.note("vhosts changed", "%s: %s", key.Name, host)
	s.put(key, strings.Replace(vhostFor(app, host), "{name: "+app+"}", "{name: "+key.Name+"}", 1))
}

func (s *soup) changeTheAppliance() {
	doc := s.manifests[applianceKey]
	memory := pick(s, []string{"512Mi", "640Mi"})
	upstream := pick(s, []string{"9.9.9.9", "1.1.1.1"})
	head, _, _ := strings.Cut(doc, "\n  nat:")
	head, _, _ = strings.Cut(head, "\n    upstreams:")
	doc = strings.NewReplacer("512Mi", memory, "640Mi", memory).Replace(head) + "\n    upstreams: [" + upstream + "]\n"
	s.note("appliances changed", "%s %s", memory, upstream)
	s.put(applianceKey, doc)
}

func (s *soup) changeBridge() {
	doc, _, _ := strings.Cut(s.manifests[bridgeKey], "\n  comment:")
	doc = strings.TrimRight(doc, "\n") + fmt.Sprintf("\n  comment: change %d\n", s.rand.IntN(3))
	s.note("bridges changed", "")
	s.put(bridgeKey, doc)
}

func (s *soup) anotherBridge() {
	key := resource.Key{Kind: "Bridge", Name: "second"}
	if s.manifests[key] != "" {
		s.deleteKey(key)
		return
	}
	if s.get(key) != nil {
		return
	}
	s.note("bridges made", "")
	s.put(key, bridgeYAML("second", pick(s, []string{"second", "sec-ond", "theirs"})))
}

func (s *soup) changeSecret() {
	key := resource.Key{Kind: "Secret", Namespace: "default", Name: "soup"}
	s.note("secrets changed", "")
	s.put(key, fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: Secret\nmetadata: {name: soup}\nspec: {stringData: {password: v%d}}\n", s.rand.IntN(5)))
}

// askFor creates an Operation.
func (s *soup) askFor(action, kind, name string, arguments map[string]string) resource.Key {
	s.Helper()
	s.next++
	ref := &v1alpha1.ObjectReference{Kind: proto.String(kind), Name: proto.String(name)}
	key := resource.Key{Kind: "Operation", Namespace: resource.SystemNamespace, Name: fmt.Sprintf("op-%d", s.next)}
	if kind == "App" {
		ref.Namespace, key.Namespace = proto.String("default"), "default"
	}
	s.note("operations asked for", "%s of %s %s", action, kind, name)
	_, err := s.applier.Create(s.Context(), &v1alpha1.Operation{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Operation"),
		Metadata: &v1alpha1.ObjectMeta{Name: key.Name, Namespace: key.Namespace},
		Spec:     &v1alpha1.OperationSpec{Action: proto.String(action), Target: ref, Arguments: arguments},
	})
	s.must(err)
	return key
}

func (s *soup) operate() {
	switch s.rand.IntN(4) {
	case 0:
		s.askFor("RestartAppliance", "Appliance", "proximity", dnsmasq)
	case 1:
		s.askFor("Examine", "Cluster", "default", nil)
	case 2:
		s.askFor("TestNAT", "Appliance", "proximity", nil)
	case 3:
		if a := s.someApp(); a != nil {
			s.askFor("CollectLogs", "App", a.name, nil)
		}
	}
}

// adoptApp takes over a guest that somebody made by hand, at first only looking.
func (s *soup) adoptApp() {
	s.next++
	a := &soupApp{name: fmt.Sprintf("app-%d", s.next), memory: 128, vmid: 600 + s.next, adopt: true, readOnly: s.rand.IntN(2) == 0}
	if !s.make(a.vmid) {
		return
	}
	if a.readOnly {
		s.keepOff(a.vmid)
	}
	s.apps[a.name] = a
	s.applyApp(a)
	s.did["guests adopted"]++
}
