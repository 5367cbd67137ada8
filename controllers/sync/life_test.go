package sync_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

func TestDeletionPolicies(t *testing.T) {
	for _, policy := range []string{"Orphan", "Delete"} {
		t.Run(policy, func(t *testing.T) {
			w := newWorld(t)
			w.repo.Write("a.yaml", project("team-a", "x"))
			w.repo.Write("b.yaml", strings.Replace(secret("s", "v"), "name: s", "name: s\n  namespace: team-a", 1))
			commit := w.repo.Push("first")
			w.follow("deletionPolicy: "+policy, `namespaces: ["*"]`)
			w.start()
			w.applied(commit)
			if _, err := w.applier.Delete(w.admin(), syncKey, store.Preconditions{}); err != nil {
				t.Fatal(err)
			}
			w.until("gone", func() bool { return w.get(syncKey) == nil })
			if policy == "Delete" {
				if w.description("team-a") != "-" {
					t.Error("team-a is there")
				}
				return
			}
			obj := w.get(namespaceKey("team-a"))
			if _, _, ok := resource.FollowedBy(obj); ok || w.description("team-a") != "x" {
				t.Errorf("the object is %v", obj)
			}
			for _, e := range obj.GetMetadata().GetManagedFields() {
				if strings.HasPrefix(e.GetManager(), "sync:") {
					t.Error("the Sync is still recorded")
				}
			}
			if err := w.patch(namespaceKey("team-a"), `{"spec":{"description":"mine now"}}`, false); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDependsOn(t *testing.T) {
	w := newWorld(t)
	w.repo.Write("infra/a.yaml", "kind: [")
	w.repo.Write("apps/b.yaml", project("team-b", "x"))
	bad := w.repo.Push("first")
	w.follow("path: infra")
	w.sync("apps", "path: apps", "dependsOn: [{name: main}]")
	w.start()
	apps := resource.Key{Kind: "Sync", Namespace: "default", Name: "apps"}
	w.refused(bad, "Invalid")
	w.until("waits", func() bool {
		c := resource.FindCondition(w.syncOf(apps), "Applied")
		return c.GetReason() == "DependencyNotReady" && strings.Contains(c.GetMessage(), "Sync default/main")
	})
	if w.description("team-b") != "-" {
		t.Error("it did not wait")
	}
	w.repo.Write("infra/a.yaml", project("team-a", "x"))
	w.applied(w.push("repaired"))
	w.until("follows", func() bool { return w.description("team-b") == "x" })

	// A circle is named, and both stand still.
	w.sync("main", "path: infra", "dependsOn: [{name: third}]")
	w.sync("third", "path: infra", "dependsOn: [{name: apps}]")
	for _, key := range []resource.Key{syncKey, apps} {
		w.until("circle "+key.Name, func() bool {
			c := resource.FindCondition(w.syncOf(key), "Applied")
			return c.GetReason() == "DependencyCycle" && strings.Contains(c.GetMessage(), "main -> third -> apps") || strings.Contains(c.GetMessage(), "apps -> main -> third -> apps")
		})
	}
}

func TestSuspendAndRequest(t *testing.T) {
	w := newWorld(t)
	w.repo.Write("a.yaml", project("team-a", "x"))
	first := w.repo.Push("first")
	w.follow()
	w.start()
	w.applied(first)
	w.sync("main", "suspend: true")
	w.until("suspended", func() bool { return resource.FindCondition(w.syncOf(syncKey), "Ready").GetReason() == "Suspended" })
	w.repo.Write("a.yaml", project("team-a", "y"))
	second := w.push("second")
	w.until("fetched", func() bool { return strings.HasSuffix(w.revision(), second) })
	if _, err := w.look(syncKey); err == nil || w.description("team-a") != "x" {
		t.Errorf("%v, %q", err, w.description("team-a"))
	}
	w.sync("main")
	w.applied(second)
	if err := w.patch(syncKey, `{"metadata":{"annotations":{"proximity/reconcile":"now"}}}`, false); err != nil {
		t.Fatal(err)
	}
	w.until("asked", func() bool { return w.syncOf(syncKey).GetStatus().GetLastHandledRequest() == "now" })
}

func TestRollback(t *testing.T) {
	w := newWorld(t)
	w.repo.Write("a.yaml", project("team-a", "one"))
	first := w.repo.Push("first")
	w.follow()
	w.start()
	w.applied(first)
	w.repo.Write("a.yaml", project("team-a", "two"))
	second := w.push("second")
	w.applied(second)
	w.sync("main", "revision: "+first)
	w.applied(first)
	if w.description("team-a") != "one" {
		t.Errorf("team-a is %q", w.description("team-a"))
	}
	w.repo.Write("a.yaml", project("team-a", "three"))
	third := w.push("third")
	w.until("fetched", func() bool { return strings.HasSuffix(w.revision(), third) })
	if _, err := w.look(syncKey); err != nil || w.description("team-a") != "one" {
		t.Errorf("%v, %q", err, w.description("team-a"))
	}
	w.sync("main")
	w.applied(third)
	if h := w.syncOf(syncKey).GetStatus().GetHistory(); len(h) != 4 || !strings.HasSuffix(h[1].GetRevision(), first) {
		t.Errorf("history %v", h)
	}
}

func TestDetectOnly(t *testing.T) {
	w := newWorld(t)
	w.repo.Write("a.yaml", project("team-a", "one"))
	w.repo.Push("first")
	w.follow("mode: detect")
	w.start()
	w.until("told", func() bool {
		c := resource.FindCondition(w.syncOf(syncKey), "InSync")
		return c.GetReason() == "Differs" && strings.Contains(c.GetMessage(), "1 created")
	})
	if w.description("team-a") != "-" {
		t.Error("it was applied")
	}
	if o := w.syncOf(syncKey).GetStatus().GetObjects(); len(o) != 1 || o[0].GetResult() != "created" || o[0].GetFile() != "a.yaml" {
		t.Errorf("objects %v", o)
	}
}

func TestSubstitutionAndDecryption(t *testing.T) {
	w := newWorld(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	w.must(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: Secret\nmetadata: {name: values}\nspec: {stringData: {token: t0ken, age: %q}}\n", id.String()))
	var sealed strings.Builder
	out, err := age.Encrypt(&sealed, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = out.Write([]byte(secret("hidden", "s3cret")))
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	w.repo.Write("hidden.yaml.age", sealed.String())
	w.repo.Write("p.yaml", project("team-a", "zone ${ZONE}"))
	w.repo.Write("s.yaml", strings.Replace(secret("t", "x"), `"x"`, `"${TOKEN}"`, 1))
	commit := w.repo.Push("first")
	w.follow("substitute: {ZONE: prox.local}", "substituteFrom: [{name: TOKEN, secretKeyRef: {name: values, key: token}}]")
	w.start()
	w.refused(commit, "Invalid", "hidden.yaml.age", "spec.decryption.ageKeyRefs")
	w.sync("main", "substitute: {ZONE: prox.local}", "substituteFrom: [{name: TOKEN, secretKeyRef: {name: values, key: token}}]", "decryption: {ageKeyRefs: [{name: values, key: age}]}")
	w.applied(commit)
	if w.description("team-a") != "zone prox.local" {
		t.Errorf("team-a is %q", w.description("team-a"))
	}
	if got := w.open(secretKey("default", "hidden"), "key"); got != "s3cret" {
		t.Errorf("the encrypted Secret has %q", got)
	}
	if got := w.open(secretKey("default", "t"), "key"); got != "t0ken" {
		t.Errorf("the substituted Secret has %q", got)
	}
	if c := resource.FindCondition(w.syncOf(syncKey), "PlaintextSecrets"); c.GetStatus() == "True" {
		t.Errorf("PlaintextSecrets is %v", c)
	}
	// A new value of the Secret is a change of the source.
	w.must(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: Secret\nmetadata: {name: values}\nspec: {stringData: {token: other, age: %q}}\n", id.String()))
	w.until("new value", func() bool { return w.open(secretKey("default", "t"), "key") == "other" })
	status, _ := resource.EncodeJSON(w.syncOf(syncKey))
	for _, value := range []string{"t0ken", "other\"", "s3cret", id.String()} {
		if strings.Contains(string(status), value) {
			t.Errorf("the status has %q", value)
		}
	}
}

// open reads a value of a Secret as a controller does.
func (w *world) open(key resource.Key, field string) string {
	s, ok := w.get(key).(*v1alpha1.Secret)
	if !ok {
		return ""
	}
	v, err := w.secrets.Resolve(context.Background(), w.client, s, &v1alpha1.SecretKeyRef{Name: &key.Name, Key: &field})
	if err != nil {
		w.Fatal(err)
	}
	return string(v.Bytes())
}

// TestRights: a repository has the rights that its role gives it, and cannot give itself more.
func TestRights(t *testing.T) {
	w := newWorld(t)
	if _, err := w.applier.Delete(w.admin(), resource.Key{Kind: "RoleBinding", Name: "gitops"}, store.Preconditions{}); err != nil {
		t.Fatal(err)
	}
	w.repo.Write("a.yaml", secret("a", "x"))
	first := w.repo.Push("first")
	w.must(project("team-b", "x"))
	w.follow(`namespaces: ["*"]`)
	w.start()
	w.refused(first, "Forbidden", "gitrepository:default/main may not apply Secret in namespace default")
	w.bind("tenant", "user", "default")
	w.applied(first)
	escalate := `apiVersion: proximity/v1alpha1
kind: RoleBinding
metadata: {name: mine}
spec: {role: admin, namespaces: ["*"], subjects: [{kind: GitRepository, name: default/main}]}
`
	for name, c := range map[string]struct{ text, words string }{
		"another namespace": {strings.Replace(secret("b", "x"), "name: b", "name: b\n  namespace: team-b", 1), "may not apply Secret in namespace team-b"},
		"a cluster's":       {project("team-c", "x"), "may not apply Namespace"},
		"a role":            {escalate, "may not apply RoleBinding"},
		"another's secret": {"apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: thief}\nspec: {env: [{name: X, valueFrom: {secretKeyRef: {name: values, key: token, namespace: proximity-system}}}]}\n",
			"Secrets of its own namespace only"},
	} {
		w.repo.Write("b.yaml", c.text)
		bad := w.push(name)
		reason := "Forbidden"
		if name == "another's secret" {
			reason = "Invalid"
		}
		w.refused(bad, reason, c.words)
		for _, key := range []resource.Key{secretKey("team-b", "b"), namespaceKey("team-c"), {Kind: "RoleBinding", Name: "mine"}, {Kind: "App", Namespace: "default", Name: "thief"}} {
			if w.get(key) != nil {
				t.Errorf("%s: %s was made", name, key)
			}
		}
	}
	// Who may write RoleBindings, but has not what they give.
	w.must(`apiVersion: proximity/v1alpha1
kind: Role
metadata: {name: binder}
spec: {rules: [{verbs: [apply, get, prune], kinds: [RoleBinding, Role]}]}
`)
	w.bind("binder", "binder", "*")
	w.repo.Write("b.yaml", escalate)
	w.refused(w.push("escalate"), "Forbidden", "which it has not itself")
}

// TestForeignSecretsOfClusterKinds: what is in no namespace could name any Secret.
func TestForeignSecretsOfClusterKinds(t *testing.T) {
	w := newWorld(t)
	w.repo.Write("c.yaml", `apiVersion: proximity/v1alpha1
kind: Cluster
metadata: {name: thief}
spec:
  endpoints: ["https://evil.example.org:8006"]
  caBundle: ""
  credentials: {tokenId: "a@pve!b", secretRef: {name: values, key: token, namespace: team-x}}
`)
	commit := w.repo.Push("first")
	w.follow()
	w.start()
	w.refused(commit, "Invalid", "Secrets of its own namespaces only")
}

// TestSelfManaged: a Sync whose repository has the Sync itself.
func TestSelfManaged(t *testing.T) {
	w := newWorld(t)
	own := "apiVersion: proximity/v1alpha1\nkind: Sync\nmetadata: {name: main}\nspec: {sourceRef: {name: main}, interval: 5s, retryInterval: 1s, timeout: %s}\n"
	w.repo.Write("sync.yaml", fmt.Sprintf(own, "7m"))
	first := w.repo.Push("first")
	w.follow("force: true")
	w.start()
	w.applied(first)
	w.until("changed itself", func() bool { return w.syncOf(syncKey).GetSpec().GetTimeout() == "7m" })
	w.repo.Write("sync.yaml", fmt.Sprintf(own, "8m"))
	w.repo.Write("a.yaml", project("team-a", "x"))
	w.applied(w.push("second"))
	w.until("changed itself again", func() bool { return w.syncOf(syncKey).GetSpec().GetTimeout() == "8m" })
	w.repo.Remove("sync.yaml")
	w.applied(w.push("third"))
	if w.syncOf(syncKey) == nil {
		t.Fatal("the Sync deleted itself")
	}
}

// failing is an engine that fails at a moment.
type failing struct {
	gitops.Engine
	before, after error
}

func (f *failing) Follow(ctx context.Context, r gitops.Request) (*gitops.Outcome, error) {
	if f.before != nil {
		return nil, f.before
	}
	o, err := f.Engine.Follow(ctx, r)
	if err == nil && f.after != nil {
		return nil, f.after
	}
	return o, err
}

// TestCrashes: the process ends before or after the transaction, or its answer is lost. In
// between there is nothing: objects, inventory and revision are one transaction, which
// pkg/store/storetest and the crash harness hold the store to.
func TestCrashes(t *testing.T) {
	w := newWorld(t)
	f := &failing{}
	w.engine = func(e gitops.Engine) gitops.Engine {
		f.Engine = e
		return f
	}
	w.repo.Write("a.yaml", project("team-a", "1"))
	w.repo.Write("b.yaml", project("team-b", "1"))
	w.follow()
	w.start()
	w.applied(w.push("1"))
	check := func() {
		t.Helper()
		s := w.syncOf(syncKey)
		at := s.GetStatus().GetHistory()[0].GetSubject()
		for _, line := range w.applies(syncKey) {
			name := strings.Fields(line)[1]
			if got := w.description(name); got != at {
				t.Errorf("the status says %q, %s is %q", at, name, got)
			}
		}
		objs, _ := w.client.List(context.Background(), "Namespace", "")
		n := 0
		for _, o := range objs {
			if by, _, ok := resource.FollowedBy(o); ok && by == syncKey {
				n++
			}
		}
		if n != len(w.applies(syncKey)) {
			t.Errorf("%d objects name the Sync, the inventory has %d", n, len(w.applies(syncKey)))
		}
	}
	for i := 2; i <= 7; i++ {
		at := fmt.Sprint(i)
		w.stop()
		f.before, f.after = nil, nil
		if i%2 == 0 {
			f.before = fmt.Errorf("the disk went away before %d", i)
		} else {
			f.after = fmt.Errorf("the answer to %d was lost", i)
		}
		w.repo.Write("a.yaml", project("team-a", at))
		if i%3 == 0 {
			w.repo.Write("b.yaml", project("team-b", at))
		} else {
			w.repo.Remove("b.yaml")
		}
		commit := w.repo.Push(at)
		w.start()
		w.poke()
		w.until("failed "+at, func() bool { return resource.FindCondition(w.syncOf(syncKey), "Applied").GetStatus() == "False" })
		check()
		w.stop()
		check()
		f.before, f.after = nil, nil
		w.start()
		w.applied(commit)
		check()
	}
	if got := w.applies(syncKey); !slices.Equal(got, []string{"Namespace team-a a.yaml"}) {
		t.Errorf("inventory %v", got)
	}
}
