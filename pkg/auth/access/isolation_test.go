package access_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/access"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// judgedApp are the fields of an App's spec, and whether one of their values gives the guest
// less isolation than is the default: then a value that does.
var judgedApp = map[string]func(*v1alpha1.AppSpec){
	"network.fallback": func(s *v1alpha1.AppSpec) { s.Network = &v1alpha1.AppNetwork{Fallback: proto.String("WAN")} },
	// A guest that somebody else made has a verb of its own, a weaker one this one, too.
	"adopt": nil, "adoptWeaker": func(s *v1alpha1.AppSpec) { s.AdoptWeaker = proto.Bool(true) },
	// Where it is, what it is called, what it is made of.
	"hostname": nil, "state": nil, "vmid": nil, "node": nil, "placement": nil, "source": nil, "deletionPolicy": nil, "suspend": nil, "stateful": nil,
	// Limits can be chosen, not left out.
	"resources": nil,
	// What is inside, as root of the guest.
	"env": nil, "files": nil, "packages": nil, "commands": nil, "healthCheck": nil,
	// Where it is reached; on its network the appliance decides.
	"ports": nil, "webPort": nil, "vhost": nil, "network.applianceRef": nil, "network.address": nil,
	// Only takes away.
	"network.egress": nil,
	// What is done with its drift.
	"readOnly": nil, "driftPolicy": nil,
}

// judgedAppliance likewise: what it gives to the guests that it serves, and to its own.
var judgedAppliance = map[string]func(*v1alpha1.ApplianceSpec){
	"fallback": func(s *v1alpha1.ApplianceSpec) { s.Fallback = proto.String("WAN") },
	"nat.allowedDestinations": func(s *v1alpha1.ApplianceSpec) {
		s.Nat = &v1alpha1.ApplianceNAT{AllowedDestinations: []string{"192.168.1.0/24"}}
	},
	"adopt": nil, "adoptWeaker": func(s *v1alpha1.ApplianceSpec) { s.AdoptWeaker = proto.Bool(true) },
	// Where it is, what it is called, what it is made of, on which networks.
	"clusterRef": nil, "bridgeRef": nil, "vmid": nil, "node": nil, "hostname": nil, "os": nil, "template": nil, "wan": nil, "lan": nil, "deletionPolicy": nil, "suspend": nil,
	"resources": nil, "logSize": nil, "repair": nil, "readOnly": nil, "driftPolicy": nil,
	// Services to its guests.
	"dhcp": nil, "acme": nil, "dns": nil,
	// A login of the appliance, on its own network, with a password that is set in the guest.
	"managementUI": nil,
	// How soon: whether at all is fallback's.
	"fallbackAfter": nil,
	// Guests are served to the uplink, as by Vhosts; they reach nothing more by that.
	"nat.portForwards": nil,
	// Only takes away.
	"nat.enabled": nil, "nat.maxConnections": nil,
}

// fieldsOf are the paths of a spec's fields; those of the messages in open are listed one by one.
func fieldsOf(spec proto.Message, open string) []string {
	var fields []string
	var walk func(md protoreflect.MessageDescriptor, path string)
	walk = func(md protoreflect.MessageDescriptor, path string) {
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			if at := path + fd.JSONName(); at == open {
				walk(fd.Message(), at+".")
			} else {
				fields = append(fields, at)
			}
		}
	}
	walk(spec.ProtoReflect().Descriptor(), "")
	slices.Sort(fields)
	return fields
}

// TestEveryFieldOfAnAppIsJudged: a field that is new needs a line in judgedApp, and one that
// weakens a guest has to take the verb.
func TestEveryFieldOfAnAppIsJudged(t *testing.T) {
	if have, want := fieldsOf(&v1alpha1.AppSpec{}, "network"), slices.Sorted(maps.Keys(judgedApp)); !slices.Equal(have, want) {
		t.Errorf("the spec has the fields\n%v\njudged are\n%v", have, want)
	}
	app := func(set func(*v1alpha1.AppSpec), packages ...string) resource.Object {
		a := &v1alpha1.App{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
			Metadata: &v1alpha1.ObjectMeta{Name: "a", Namespace: "web"}, Spec: &v1alpha1.AppSpec{Packages: packages}}
		if set != nil {
			set(a.Spec)
		}
		return a
	}
	weak := map[string]weakening{}
	for path, set := range judgedApp {
		if set != nil {
			weak[path] = weakening{app(nil), app(set), app(set, "curl")}
		}
	}
	judge(t, "App", "web", weak)
}

// TestEveryFieldOfAnApplianceIsJudged likewise.
func TestEveryFieldOfAnApplianceIsJudged(t *testing.T) {
	if have, want := fieldsOf(&v1alpha1.ApplianceSpec{}, "nat"), slices.Sorted(maps.Keys(judgedAppliance)); !slices.Equal(have, want) {
		t.Errorf("the spec has the fields\n%v\njudged are\n%v", have, want)
	}
	appliance := func(set func(*v1alpha1.ApplianceSpec), hostname string) resource.Object {
		a := &v1alpha1.Appliance{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Appliance"),
			Metadata: &v1alpha1.ObjectMeta{Name: "net"}, Spec: &v1alpha1.ApplianceSpec{Hostname: proto.String(hostname)}}
		if set != nil {
			set(a.Spec)
		}
		return a
	}
	weak := map[string]weakening{}
	for path, set := range judgedAppliance {
		if set != nil {
			weak[path] = weakening{appliance(nil, "a"), appliance(set, "a"), appliance(set, "b")}
		}
	}
	judge(t, "Appliance", "", weak)

	// Another range is another opening.
	w, guard := judges(t)
	one := appliance(judgedAppliance["nat.allowedDestinations"], "a").(*v1alpha1.Appliance)
	two := resource.Clone(one)
	two.Spec.Nat.AllowedDestinations = append(two.Spec.Nat.AllowedDestinations, "10.0.0.0/8")
	if err := guard.Check(w.as(auth.User("alice")), nil, one, two); err == nil || !strings.Contains(err.Error(), "10.0.0.0/8") {
		t.Errorf("another range: %v", err)
	}
	// To take a guest over has a verb of its own.
	adopting := appliance(func(s *v1alpha1.ApplianceSpec) { s.Adopt = proto.Bool(true) }, "a")
	if err := guard.Check(w.as(auth.User("alice")), nil, nil, adopting); !guard.Asks("Appliance", adopting) || err == nil || !strings.Contains(err.Error(), "may not adopt Appliance") {
		t.Errorf("adopt: %v", err)
	}
	if err := guard.Check(w.as(auth.User("boss")), nil, nil, adopting); err != nil {
		t.Errorf("adopt, by an administrator: %v", err)
	}
}

// TestManagementTakesTheVerb: who may change Vhosts may not open the management of the network with
// one, nor change one that does. The fields of a backend are counted, so that one that leads
// elsewhere is thought of here.
func TestManagementTakesTheVerb(t *testing.T) {
	if have, want := fieldsOf(&v1alpha1.VhostBackend{}, ""), []string{"address", "appRef", "managementUI", "weight"}; !slices.Equal(have, want) {
		t.Errorf("a backend has the fields %v, judged are %v", have, want)
	}
	vhost := func(change func(*v1alpha1.Vhost)) *v1alpha1.Vhost {
		v := &v1alpha1.Vhost{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Vhost"),
			Metadata: &v1alpha1.ObjectMeta{Name: "ui", Namespace: "web"},
			Spec: &v1alpha1.VhostSpec{Hosts: []string{"ui.prox.local"}, AllowFrom: []string{"192.168.1.0/24"}, Rules: []*v1alpha1.VhostRule{
				{Path: proto.String("/"), Backends: []*v1alpha1.VhostBackend{{ManagementUi: proto.Bool(true)}}},
			}}}
		if change != nil {
			change(v)
		}
		return v
	}
	open := vhost(nil)
	plain := vhost(func(v *v1alpha1.Vhost) {
		v.Spec.Rules[0].Backends[0] = &v1alpha1.VhostBackend{Address: proto.String("10.0.0.9:80")}
	})
	w, guard := judges(t)
	alice, boss := w.as(auth.User("alice")), w.as(auth.User("boss"))
	if !guard.Asks("Vhost", open) || guard.Asks("Vhost", plain) {
		t.Error("which Vhosts the guard is asked about")
	}
	for what, tt := range map[string]struct {
		was, is resource.Object
		want    bool
	}{
		"new":                 {nil, open, false},
		"led there":           {plain, open, false},
		"another name":        {open, vhost(func(v *v1alpha1.Vhost) { v.Spec.Hosts = append(v.Spec.Hosts, "x.prox.local") }), false},
		"for everybody":       {open, vhost(func(v *v1alpha1.Vhost) { v.Spec.AllowFrom = nil }), false},
		"another header":      {open, vhost(func(v *v1alpha1.Vhost) { v.Spec.RequestHeaders = &v1alpha1.HeaderChanges{Remove: []string{"Origin"}} }), false},
		"a label":             {open, vhost(func(v *v1alpha1.Vhost) { v.Metadata.Labels = map[string]string{"a": "b"} }), true},
		"led away":            {open, plain, true},
		"deleted":             {open, nil, true},
		"one that never does": {nil, plain, true},
	} {
		err := guard.Check(alice, nil, tt.was, tt.is)
		if (err == nil) != tt.want || err != nil && (!errors.Is(err, auth.ErrForbidden) || !strings.Contains(err.Error(), "may not weaken Vhost") || !strings.Contains(err.Error(), "spec.rules[0].backends[0].managementUI opens the management of the network")) {
			t.Errorf("%s: %v, want allowed %t", what, err, tt.want)
		}
		if err := guard.Check(boss, nil, tt.was, tt.is); err != nil {
			t.Errorf("%s, by an administrator: %v", what, err)
		}
	}
	if auth.Authorize(alice, auth.VerbUpdate, "Vhost", "web") != nil {
		t.Error("alice is not who the test is about")
	}
}

// weakening is an object without a weakness, with it, and with it and something else.
type weakening struct{ plain, weak, changed resource.Object }

// judges are alice, who may change Apps and Appliances and weaken neither, and boss, who may.
func judges(t *testing.T) (*world, *access.Guard) {
	w := start(t)
	w.must(root, header+"kind: Namespace\nmetadata: {name: web}\nspec: {owners: [{kind: User, name: alice}]}\n---\n"+
		header+"kind: Role\nmetadata: {name: nets}\nspec: {rules: [{verbs: [create, update, apply, get], kinds: [Appliance]}]}\n---\n"+
		header+"kind: RoleBinding\nmetadata: {name: nets}\nspec: {role: nets, namespaces: [\"*\"], subjects: [{kind: User, name: alice}]}\n---\n"+
		header+"kind: RoleBinding\nmetadata: {name: boss}\nspec: {role: admin, namespaces: [\"*\"], subjects: [{kind: User, name: boss}]}\n")
	return w, access.NewGuard(w.reg, w.policy)
}

func judge(t *testing.T, kind, namespace string, weak map[string]weakening) {
	w, guard := judges(t)
	alice, boss := w.as(auth.User("alice")), w.as(auth.User("boss"))
	for path, o := range weak {
		if !guard.Asks(kind, o.weak) {
			t.Errorf("%s: the guard is not asked", path)
		}
		for what, tt := range map[string]struct {
			was, is resource.Object
			want    bool
		}{"new": {nil, o.weak, false}, "made weaker": {o.plain, o.weak, false}, "weak already": {o.weak, o.changed, true}, "made stronger": {o.weak, o.plain, true}, "deleted": {o.weak, nil, true}} {
			err := guard.Check(alice, nil, tt.was, tt.is)
			if (err == nil) != tt.want || err != nil && (!errors.Is(err, auth.ErrForbidden) || !strings.Contains(err.Error(), "may not weaken "+kind) || !strings.Contains(err.Error(), path)) {
				t.Errorf("%s, %s: %v, want allowed %t", path, what, err, tt.want)
			}
			if err := guard.Check(boss, nil, tt.was, tt.is); err != nil {
				t.Errorf("%s, %s, by an administrator: %v", path, what, err)
			}
		}
	}
	if auth.Authorize(alice, auth.VerbUpdate, kind, namespace) != nil || auth.Authorize(alice, auth.VerbWeaken, kind, namespace) == nil {
		t.Error("alice is not who the test is about")
	}
}
