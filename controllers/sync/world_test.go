package sync_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/gitrepository"
	"github.com/proximity-pve/proximity/controllers/namespace"
	"github.com/proximity-pve/proximity/controllers/sync"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/access"
	"github.com/proximity-pve/proximity/pkg/gitops"
	"github.com/proximity-pve/proximity/pkg/gitops/engine"
	"github.com/proximity-pve/proximity/pkg/gitops/git"
	"github.com/proximity-pve/proximity/pkg/gitops/gittest"
	"github.com/proximity-pve/proximity/pkg/gitops/inventory"
	"github.com/proximity-pve/proximity/pkg/gitops/source"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/secretref"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// patience bounds how long a test waits for what must come; it is generous, for machines
// that are busy.
const patience = 60 * time.Second

// world is a daemon's part that follows repositories, on a real Git server.
type world struct {
	*testing.T
	server   *gittest.HTTP
	repo     *gittest.Repo
	url      string
	store    store.Store
	registry *resource.Registry
	applier  *apply.Applier
	policy   *access.Follower
	auth     *auth.Authorizer
	keys     *seal.Keyring
	secrets  *secretref.Resolver
	cacheDir string
	client   runtime.Client
	pokes    chan resource.Key
	stop     func()
	// engine wraps the real one, for tests that let it fail.
	engine func(gitops.Engine) gitops.Engine
	// events by reason
	syncs *runtime.Controller
}

var (
	repoKey = resource.Key{Kind: "GitRepository", Namespace: "default", Name: "main"}
	syncKey = resource.Key{Kind: "Sync", Namespace: "default", Name: "main"}
)

func newWorld(t *testing.T) *world {
	t.Helper()
	server := gittest.NewHTTP(t, false)
	return newWorldOn(t, server, server.Repo(t, "infra"))
}

// newWorldOn makes a world that follows a repository which others follow, too.
func newWorldOn(t *testing.T, server *gittest.HTTP, repo *gittest.Repo) *world {
	t.Helper()
	w := &world{T: t, server: server, repo: repo, url: server.At(repo), registry: kinds.Registry(), cacheDir: t.TempDir(), pokes: make(chan resource.Key, 16)}
	w.store = memory.New(w.registry)
	t.Cleanup(func() { _ = w.store.Close() })
	keys, err := seal.EnsureKeys(filepath.Join(t.TempDir(), "key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.keys, w.secrets = keys, secretref.New(keys)
	w.auth = auth.NewAuthorizer()
	w.policy = access.NewPolicy(w.store, w.registry, w.auth)
	w.applier = apply.New(w.store, w.registry).WithKeys(keys).WithGuard(access.NewGuard(w.registry, w.policy))
	if err := w.applier.EnsureNamespaces(w.admin()); err != nil {
		t.Fatal(err)
	}
	w.client = runtime.NewClient(w.store)
	w.bind("gitops", "admin", "*")
	return w
}

func (w *world) admin() context.Context {
	return w.auth.As(context.Background(), auth.Identity{Type: auth.LocalAdministrator, Name: "test"})
}

// bind gives the repository a role.
func (w *world) bind(name, role string, namespaces ...string) {
	w.Helper()
	w.must(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: RoleBinding\nmetadata: {name: %s}\nspec: {role: %s, namespaces: [%s], subjects: [{kind: GitRepository, name: default/main}]}\n",
		name, role, `"`+strings.Join(namespaces, `", "`)+`"`))
}

// must applies documents as an administrator.
func (w *world) must(text string) {
	w.Helper()
	if err := w.apply(text, apply.Options{Manager: "proxctl"}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) apply(text string, o apply.Options) error {
	docs, err := resource.DecodeDocuments(w.registry, "test.yaml", []byte(text))
	if err != nil {
		return err
	}
	_, err = w.applier.ApplySet(w.admin(), docs, o)
	return err
}

// start runs the controllers; it can be called again after stop, like a daemon.
func (w *world) start() {
	w.Helper()
	sources := source.Sources{Cache: git.NewCache(w.cacheDir), Secrets: w.secrets}
	var e gitops.Engine = engine.New(w.applier, w.auth.As)
	if w.engine != nil {
		e = w.engine(e)
	}
	log := slog.New(slog.DiscardHandler)
	syncs, _ := sync.New(sync.Deps{Sources: sources, Engine: e, Registry: w.registry, Log: log})
	w.syncs = syncs
	m := runtime.NewManager(w.store, log, nil,
		namespace.New(), gitrepository.New(gitrepository.Deps{Sources: sources, Pokes: w.pokes, Log: log}), syncs)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	w.stop = func() {
		cancel()
		<-done
		w.stop = func() {}
	}
	w.Cleanup(func() { w.stop() })
}

// look reconciles a Sync once, with the controllers at rest: no object is ever reconciled
// twice at once. Those of a new daemon go on, as after a restart.
func (w *world) look(key resource.Key) (runtime.Result, error) {
	w.Helper()
	syncs := w.syncs
	w.stop()
	defer w.start()
	return syncs.Reconcile(context.Background(), key)
}

// follow makes GitRepository and Sync main; more is further lines of the Sync's spec.
func (w *world) follow(more ...string) {
	w.Helper()
	w.must(fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: GitRepository\nmetadata: {name: main}\nspec: {url: %q, interval: 5s}\n", w.url))
	w.sync("main", more...)
}

func (w *world) sync(name string, more ...string) {
	w.Helper()
	text := "apiVersion: proximity/v1alpha1\nkind: Sync\nmetadata: {name: " + name + "}\nspec:\n  sourceRef: {name: main}\n  interval: 5s\n  retryInterval: 1s\n"
	for _, line := range more {
		text += "  " + line + "\n"
	}
	w.must(text)
}

// push commits and lets the repository be looked at, as a webhook does.
func (w *world) push(message string) string {
	w.Helper()
	commit := w.repo.Push(message)
	w.poke()
	return commit
}

func (w *world) poke() {
	select {
	case w.pokes <- repoKey:
	default:
	}
}

// secret is a small document; kinds without a controller are ready when they are stored.
func secret(name, value string) string {
	return fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: Secret\nmetadata:\n  name: %s\nspec:\n  stringData: {key: %q}\n", name, value)
}

func project(name, description string) string {
	return fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: Namespace\nmetadata:\n  name: %s\nspec:\n  description: %q\n", name, description)
}

func (w *world) get(key resource.Key) resource.Object {
	obj, err := w.client.Get(context.Background(), key)
	if errors.Is(err, runtime.ErrNotFound) {
		return nil
	}
	if err != nil {
		w.Fatal(err)
	}
	return obj
}

func (w *world) syncOf(key resource.Key) *v1alpha1.Sync {
	w.Helper()
	s, ok := w.get(key).(*v1alpha1.Sync)
	if !ok {
		w.Fatalf("there is no %s", key)
	}
	return s
}

// until waits for what must come.
func (w *world) until(what string, is func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if is() {
			return
		}
	}
	state := ""
	for _, key := range []resource.Key{repoKey, syncKey} {
		if obj := w.get(key); obj != nil {
			text, _ := resource.EncodeYAML(obj)
			state += string(text)
		}
	}
	w.Fatalf("in vain: %s\n%s", what, state)
}

// applied waits until a commit is applied and everything is ready.
func (w *world) applied(commit string) *v1alpha1.Sync {
	w.Helper()
	w.until("applied "+commit, func() bool {
		s := w.syncOf(syncKey)
		return strings.HasSuffix(s.GetStatus().GetAppliedRevision(), commit) && resource.IsReady(s) &&
			resource.FindCondition(s, "Applied").GetMessage() == s.GetStatus().GetAppliedRevision()
	})
	return w.syncOf(syncKey)
}

// refused waits until the Sync says that a commit is not applied, for a reason.
func (w *world) refused(commit, reason string, words ...string) *v1alpha1.Sync {
	w.Helper()
	w.until("refused "+commit+" "+reason, func() bool {
		s := w.syncOf(syncKey)
		c := resource.FindCondition(s, "Applied")
		return c.GetStatus() == "False" && c.GetReason() == reason && (commit == "" || strings.HasSuffix(s.GetStatus().GetAttemptedRevision(), commit))
	})
	s := w.syncOf(syncKey)
	for _, word := range words {
		if m := resource.FindCondition(s, "Applied").GetMessage(); !strings.Contains(m, word) {
			w.Errorf("the message %q does not say %q", m, word)
		}
	}
	return s
}

func (w *world) applies(key resource.Key) []string {
	w.Helper()
	entries, err := inventory.Decode(w.syncOf(key).GetStatus().GetInventory())
	if err != nil {
		w.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Key.String()+" "+e.File)
	}
	return names
}

// description is that of a Namespace, "-" when it does not exist.
func (w *world) description(name string) string {
	ns, ok := w.get(resource.Key{Kind: "Namespace", Name: name}).(*v1alpha1.Namespace)
	if !ok {
		return "-"
	}
	return ns.GetSpec().GetDescription()
}

// patch changes an object by hand.
func (w *world) patch(key resource.Key, patch string, force bool) error {
	_, err := w.applier.Patch(w.admin(), key, apply.MergePatch, []byte(patch), apply.Options{Manager: "hand", Force: force})
	return err
}

// event returns the message of the newest event of that reason about Sync main.
func (w *world) event(reason string) string {
	w.Helper()
	events, err := runtime.List[*v1alpha1.Event](context.Background(), w.client, "Event", "default")
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range events {
		if e.GetReason() == reason && e.GetRegarding().GetName() == "main" {
			return e.GetMessage()
		}
	}
	return ""
}

// revision is what the repository's status has.
func (w *world) revision() string {
	return w.get(repoKey).(*v1alpha1.GitRepository).GetStatus().GetArtifact().GetRevision()
}
