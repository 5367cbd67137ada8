package access_test

import (
	"errors"
	"fmt"
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

// judged are the fields of an App's spec, and whether one of their values gives the guest
// less isolation than is the default: then a value that does.
var judged = map[string]func(*v1alpha1.AppSpec){
	"network.fallback": func(s *v1alpha1.AppSpec) { s.Network = &v1alpha1.AppNetwork{Fallback: proto.String("WAN")} },
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
	// A guest that somebody else made, with a verb of its own; what is done with its drift.
	"adopt": nil, "readOnly": nil, "driftPolicy": nil,
}

// TestEveryFieldOfAnAppIsJudged: a field that is new needs a line in judged, and one that
// weakens a guest has to take the verb.
func TestEveryFieldOfAnAppIsJudged(t *testing.T) {
	w := start(t)
	w.must(root, header+"kind: Namespace\nmetadata: {name: web}\nspec: {owners: [{kind: User, name: alice}]}\n---\n"+
		header+"kind: RoleBinding\nmetadata: {name: boss}\nspec: {role: admin, namespaces: [web], subjects: [{kind: User, name: boss}]}\n")
	fields := map[string]bool{}
	var walk func(md protoreflect.MessageDescriptor, path string)
	walk = func(md protoreflect.MessageDescriptor, path string) {
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			if at := path + fd.JSONName(); at == "network" {
				walk(fd.Message(), at+".")
			} else {
				fields[at] = true
			}
		}
	}
	walk((&v1alpha1.AppSpec{}).ProtoReflect().Descriptor(), "")
	if have, want := slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(judged)); !slices.Equal(have, want) {
		t.Errorf("the spec has the fields\n%v\njudged are\n%v", have, want)
	}
	guard := access.NewGuard(w.reg, w.policy)
	app := func(set func(*v1alpha1.AppSpec)) *v1alpha1.App {
		a := &v1alpha1.App{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
			Metadata: &v1alpha1.ObjectMeta{Name: "a", Namespace: "web"}, Spec: &v1alpha1.AppSpec{}}
		if set != nil {
			set(a.Spec)
		}
		return a
	}
	alice, boss := w.as(auth.User("alice")), w.as(auth.User("boss"))
	for path, set := range judged {
		if set == nil {
			continue
		}
		plain, weak := app(nil), app(set)
		changed := app(set)
		changed.Spec.Packages = []string{"curl"}
		if !guard.Asks("App", weak) {
			t.Errorf("%s: the guard is not asked", path)
		}
		for what, tt := range map[string]struct {
			was, is resource.Object
			want    bool
		}{"new": {nil, weak, false}, "made weaker": {plain, weak, false}, "weak already": {weak, changed, true}, "made stronger": {weak, plain, true}, "deleted": {weak, nil, true}} {
			err := guard.Check(alice, nil, tt.was, tt.is)
			if (err == nil) != tt.want || err != nil && (!errors.Is(err, auth.ErrForbidden) || !strings.Contains(err.Error(), "may not weaken App") || !strings.Contains(err.Error(), path)) {
				t.Errorf("%s, %s: %v, want allowed %t", path, what, err, tt.want)
			}
			if err := guard.Check(boss, nil, tt.was, tt.is); err != nil {
				t.Errorf("%s, %s, by an administrator: %v", path, what, err)
			}
		}
	}
	if auth.Authorize(alice, auth.VerbUpdate, "App", "web") != nil || fmt.Sprint(auth.Authorize(alice, auth.VerbWeaken, "App", "web")) == "<nil>" {
		t.Error("alice is not who the test is about")
	}
}
