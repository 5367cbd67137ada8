package access_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/access"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

type world struct {
	t          *testing.T
	store      store.Store
	reg        *resource.Registry
	applier    *apply.Applier
	authorizer *auth.Authorizer
	policy     *access.Follower
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, reg: kinds.Registry(), authorizer: auth.NewAuthorizer()}
	w.store = memory.New(w.reg)
	t.Cleanup(func() { _ = w.store.Close() })
	w.policy = access.NewPolicy(w.store, w.reg, w.authorizer)
	w.applier = apply.New(w.store, w.reg).WithKeys(seal.NewEphemeral()).WithGuard(access.NewGuard(w.reg, w.policy))
	if err := w.applier.EnsureNamespaces(context.Background()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) as(id auth.Identity) context.Context {
	return w.authorizer.As(context.Background(), id)
}

var root = auth.Identity{Type: auth.LocalAdministrator, Name: "local-administrator"}

// apply applies YAML as somebody.
func (w *world) apply(id auth.Identity, yaml string) error {
	w.t.Helper()
	docs, err := resource.DecodeDocuments(w.reg, "f.yaml", []byte(yaml))
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.applier.ApplySet(w.as(id), docs, apply.Options{Manager: "test"})
	return err
}

func (w *world) must(id auth.Identity, yaml string) {
	w.t.Helper()
	if err := w.apply(id, yaml); err != nil {
		w.t.Fatal(err)
	}
}

const header = "apiVersion: proximity/v1alpha1\n"

func TestPolicyIsInForceWhenTheChangeIsAnswered(t *testing.T) {
	w := start(t)
	alice := auth.User("alice", "devs")
	may := func() bool { return auth.Authorize(w.as(alice), auth.VerbApply, "App", "default") == nil }
	if may() {
		t.Fatal("allowed without a binding")
	}
	b := header + "kind: RoleBinding\nmetadata: {name: devs}\nspec: {role: user, namespaces: [default], subjects: [{kind: Group, name: devs}]}\n"
	for range 20 {
		w.must(root, b)
		if !may() {
			t.Fatal("bound and not allowed")
		}
		if _, err := w.applier.Delete(w.as(root), resource.Key{Kind: "RoleBinding", Name: "devs"}, store.Preconditions{}); err != nil {
			t.Fatal(err)
		}
		if may() {
			t.Fatal("allowed after the binding was deleted")
		}
	}
	w.must(root, header+"kind: Namespace\nmetadata: {name: web}\nspec: {owners: [{kind: User, name: alice}]}\n")
	if auth.Authorize(w.as(alice), auth.VerbDelete, "App", "web") != nil || may() {
		t.Error("an owner has not just its namespace")
	}
}

func TestFollowerSeesWhatOthersWrite(t *testing.T) {
	w := start(t)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.policy.Run(ctx, slog.New(slog.DiscardHandler)) })
	defer wg.Wait()
	defer cancel()
	_, err := w.store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Create(&v1alpha1.RoleBinding{
			ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("RoleBinding"), Metadata: &v1alpha1.ObjectMeta{Name: "b"},
			Spec: &v1alpha1.RoleBindingSpec{Role: proto.String("viewer"), Namespaces: []string{"*"}, Subjects: []*v1alpha1.Subject{{Kind: proto.String("User"), Name: proto.String("bob")}}},
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); auth.Authorize(w.as(auth.User("bob")), auth.VerbList, "App", "") != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the policy does not follow the store")
		}
	}
}

// TestGuard: what the right to change an object does not give.
func TestGuard(t *testing.T) {
	w := start(t)
	w.must(root, header+`kind: Namespace
metadata: {name: web}
spec: {owners: [{kind: User, name: alice}]}
---
`+header+`kind: Role
metadata: {name: accounts}
spec:
  rules:
  - {verbs: [get, create, apply, update, delete], kinds: [User, Role, RoleBinding, Namespace]}
---
`+header+`kind: RoleBinding
metadata: {name: accounts}
spec: {role: accounts, namespaces: ["*"], subjects: [{kind: User, name: alice}]}
---
`+header+`kind: RoleBinding
metadata: {name: admins}
spec: {role: admin, namespaces: ["*"], subjects: [{kind: Group, name: admins}]}
---
`+header+`kind: User
metadata: {name: alice}
---
`+header+`kind: User
metadata: {name: boss}
spec: {groups: [admins]}
---
`+header+`kind: User
metadata: {name: plain}
`)
	alice, boss := auth.User("alice"), auth.User("boss", "admins")
	for name, tt := range map[string]struct {
		yaml string
		want bool
	}{
		"admin for herself":              {"kind: RoleBinding\nmetadata: {name: x1}\nspec: {role: admin, namespaces: ['*'], subjects: [{kind: User, name: alice}]}", false},
		"admin in her namespace":         {"kind: RoleBinding\nmetadata: {name: x2}\nspec: {role: admin, namespaces: [web], subjects: [{kind: User, name: alice}]}", false},
		"what she has":                   {"kind: RoleBinding\nmetadata: {name: x3}\nspec: {role: user, namespaces: [web], subjects: [{kind: User, name: plain}]}", true},
		"another namespace":              {"kind: RoleBinding\nmetadata: {name: x4}\nspec: {role: user, namespaces: [default], subjects: [{kind: User, name: alice}]}", false},
		"a role that does not exist":     {"kind: RoleBinding\nmetadata: {name: x5}\nspec: {role: later, namespaces: [web], subjects: [{kind: User, name: alice}]}", false},
		"a role with more":               {"kind: Role\nmetadata: {name: x6}\nspec: {rules: [{verbs: [get], kinds: [Secret]}]}", false},
		"her own role grows":             {"kind: Role\nmetadata: {name: accounts}\nspec: {rules: [{verbs: ['*'], kinds: ['*']}]}", false},
		"a role with what she has":       {"kind: Role\nmetadata: {name: x7}\nspec: {rules: [{verbs: [get], kinds: [User]}]}", true},
		"role and binding in one":        {"kind: Role\nmetadata: {name: x8}\nspec: {rules: [{verbs: [get], kinds: [Secret]}]}\n---\n" + header + "kind: RoleBinding\nmetadata: {name: x8}\nspec: {role: x8, namespaces: [web], subjects: [{kind: User, name: alice}]}", false},
		"herself into the admins":        {"kind: User\nmetadata: {name: alice}\nspec: {groups: [admins]}", false},
		"a password of an administrator": {"kind: User\nmetadata: {name: boss}\nspec: {groups: [admins], passwordHash: '$argon2id$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'}", false},
		"an administrator out of his":    {"kind: User\nmetadata: {name: boss}\nspec: {groups: [none]}", false},
		"a plain user":                   {"kind: User\nmetadata: {name: plain}\nspec: {displayName: Plain}", true},
		"owner of another namespace":     {"kind: Namespace\nmetadata: {name: default}\nspec: {owners: [{kind: User, name: alice}]}", false},
		"another owner of hers":          {"kind: Namespace\nmetadata: {name: web}\nspec: {owners: [{kind: User, name: alice}, {kind: User, name: plain}]}", true},
		"an App":                         {"kind: App\nmetadata: {name: a, namespace: web}", true},
		"an App that adopts":             {"kind: App\nmetadata: {name: b, namespace: web}\nspec: {adopt: true, vmid: 20001}", false},
	} {
		err := w.apply(alice, header+tt.yaml+"\n")
		if (err == nil) != tt.want || err != nil && !errors.Is(err, auth.ErrForbidden) {
			t.Errorf("%s: %v, want allowed %t", name, err, tt.want)
		}
		if err := w.apply(boss, header+tt.yaml+"\n"); err != nil {
			t.Errorf("%s by an administrator: %v", name, err)
		}
		// Put back what the administrator has changed.
		w.must(root, header+"kind: Role\nmetadata: {name: accounts}\nspec:\n  rules:\n  - {verbs: [get, create, apply, update, delete], kinds: [User, Role, RoleBinding, Namespace]}\n---\n"+
			header+"kind: User\nmetadata: {name: alice}\n---\n"+header+"kind: User\nmetadata: {name: boss}\nspec: {groups: [admins]}\n---\n"+
			header+"kind: Namespace\nmetadata: {name: default}\n")
		for _, b := range []string{"x1", "x2", "x4", "x5", "x8"} {
			_, _ = w.applier.Delete(w.as(root), resource.Key{Kind: "RoleBinding", Name: b}, store.Preconditions{})
		}
	}
	if _, err := w.applier.Delete(w.as(alice), resource.Key{Kind: "User", Name: "boss"}, store.Preconditions{}); !errors.Is(err, auth.ErrForbidden) {
		t.Errorf("alice deletes an administrator: %v", err)
	}
	if _, err := w.applier.Patch(w.as(alice), resource.Key{Kind: "User", Name: "alice"}, apply.MergePatch, []byte(`{"spec":{"groups":["admins"]}}`)); !errors.Is(err, auth.ErrForbidden) {
		t.Errorf("alice patches herself into the administrators: %v", err)
	}
	// Operations need the right to what they act on.
	op := func(name, action, kind, target string) resource.Object {
		return &v1alpha1.Operation{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Operation"), Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: "web"},
			Spec: &v1alpha1.OperationSpec{Action: proto.String(action), Target: &v1alpha1.ObjectReference{Kind: proto.String(kind), Name: proto.String(target)}}}
	}
	for i, tt := range []struct {
		action, kind string
		want         bool
	}{{"RestartAppliance", "Appliance", false}, {"Rebuild", "Cluster", false}, {"Examine", "Cluster", false}, {"CollectLogs", "App", true}} {
		o := op(string(rune('a'+i)), tt.action, tt.kind, "x")
		if _, err := w.applier.Create(w.as(alice), o); (err == nil) != tt.want || err != nil && !errors.Is(err, auth.ErrForbidden) {
			t.Errorf("%s of %s: %v, want allowed %t", tt.action, tt.kind, err, tt.want)
		}
		if _, err := w.applier.Create(w.as(boss), op(string(rune('s'+i)), tt.action, tt.kind, "x")); err != nil {
			t.Errorf("%s of %s by an administrator: %v", tt.action, tt.kind, err)
		}
	}
	// The daemon's own Applier is not asked.
	if _, err := w.applier.System().Create(context.Background(), op("sys", "Rebuild", "Cluster", "x")); err != nil {
		t.Errorf("the daemon: %v", err)
	}
}
