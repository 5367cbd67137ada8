package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/gitrepository"
	"github.com/proximity-pve/proximity/controllers/sync"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/gitops/engine"
	"github.com/proximity-pve/proximity/pkg/gitops/git"
	"github.com/proximity-pve/proximity/pkg/gitops/source"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

// gitopsFigures are about following a repository: git's own http-backend on loopback, the
// production store, admission and controllers, without the controllers of what is applied.
func gitopsFigures(b *bench) []figure {
	small, large := &gitopsArea{bench: b, manifests: 1_000}, &gitopsArea{bench: b, manifests: 5_000}
	return []figure{
		{"gitops/first-1000", "s", valueAtMost(0.8), small.first},
		{"gitops/one-line-1000", "s", valueAtMost(0.25), small.oneLine},
		{"gitops/unchanged-1000", "ms", valueAtMost(20), small.unchanged},
		{"gitops/first-5000", "s", valueAtMost(4), large.first},
		{"gitops/one-line-5000", "s", valueAtMost(0.25), large.oneLine},
		{"gitops/unchanged-5000", "ms", valueAtMost(20), large.unchanged},
		{"gitops/push-to-stored-5000", "s", valueAtMost(1), large.pushed},
	}
}

type gitopsArea struct {
	*bench
	manifests int
	world     shared[*followed]
}

// followed is a repository and what follows it.
type followed struct {
	work, bare  string
	store       *bolt.Store
	syncs, repo *runtime.Controller
	client      runtime.Client
	refs, packs atomic.Int64
	firstSync   time.Duration
	firstDetail []string
	changes     int
	pokes       chan resource.Key
	start       func()
}

var (
	benchRepo = resource.Key{Kind: "GitRepository", Namespace: "default", Name: "main"}
	benchSync = resource.Key{Kind: "Sync", Namespace: "default", Name: "main"}
)

// open makes the repository and applies it once, which is the first figure.
func (g *gitopsArea) open() (*followed, error) {
	dir, err := g.temp("gitops")
	if err != nil {
		return nil, err
	}
	f := &followed{work: filepath.Join(dir, "work"), bare: filepath.Join(dir, "repo.git"), pokes: make(chan resource.Key, 1)}
	if err := f.fill(g.manifests); err != nil {
		return nil, err
	}
	url, err := f.serve(dir, g.atEnd)
	if err != nil {
		return nil, err
	}
	reg := kinds.Registry()
	if f.store, err = bolt.Open(filepath.Join(dir, "proximity.db"), reg, bolt.Options{}); err != nil {
		return nil, err
	}
	g.atEnd(f.store.Close)
	applier := apply.New(f.store, reg)
	if err := applier.EnsureNamespaces(context.Background()); err != nil {
		return nil, err
	}
	admin := func(ctx context.Context, _ auth.Identity) context.Context {
		return auth.WithIdentity(ctx, auth.Identity{Type: auth.LocalAdministrator})
	}
	log := slog.New(slog.DiscardHandler)
	sources := source.Sources{Cache: git.NewCache(filepath.Join(dir, "cache")), Secrets: secretref.New(nil)}
	f.repo = gitrepository.New(gitrepository.Deps{Sources: sources, Pokes: f.pokes, Log: log})
	f.syncs, _ = sync.New(sync.Deps{Sources: sources, Engine: engine.New(applier, admin), Registry: reg, Log: log})
	f.client = runtime.NewClient(f.store)
	for _, c := range []*runtime.Controller{f.repo, f.syncs} {
		c.Bind(f.client, log)
	}
	f.start = func() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		m := runtime.NewManager(f.store, log, nil, f.repo, f.syncs)
		go func() {
			defer close(done)
			m.Run(ctx)
		}()
		g.atEnd(func() error {
			cancel()
			<-done
			return nil
		})
	}
	api := proto.String(resource.APIVersion)
	meta := func() *v1alpha1.ObjectMeta { return &v1alpha1.ObjectMeta{Name: "main"} }
	for _, obj := range []resource.Object{
		&v1alpha1.GitRepository{ApiVersion: api, Kind: proto.String("GitRepository"), Metadata: meta(), Spec: &v1alpha1.GitRepositorySpec{Url: &url}},
		&v1alpha1.Sync{ApiVersion: api, Kind: proto.String("Sync"), Metadata: meta(), Spec: &v1alpha1.SyncSpec{
			SourceRef: &v1alpha1.LocalReference{Name: proto.String("main")}, Wait: proto.Bool(false)}},
	} {
		if _, err := applier.Create(context.Background(), obj); err != nil {
			return nil, err
		}
	}
	return f, f.measureFirst(g.manifests)
}

func (f *followed) measureFirst(manifests int) error {
	var before, after goruntime.MemStats
	goruntime.GC()
	goruntime.ReadMemStats(&before)
	stats, start := f.store.Stats(), time.Now()
	if err := f.look(); err != nil {
		return err
	}
	f.firstSync = time.Since(start)
	goruntime.GC()
	goruntime.ReadMemStats(&after)
	now := f.store.Stats()
	f.firstDetail = []string{fmt.Sprintf("%d changes of objects in %d transactions; allocated %d MiB, kept %d MiB (objects, index and decoded manifests)",
		now.Changes-stats.Changes, now.Commits-stats.Commits, (after.TotalAlloc-before.TotalAlloc)>>20, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>20)}
	if now.Objects < manifests {
		return fmt.Errorf("%d objects are stored of %d manifests", now.Objects, manifests)
	}
	return nil
}

// look fetches and applies, as the controllers' workers do.
func (f *followed) look() error {
	ctx := context.Background()
	if _, err := f.repo.Reconcile(ctx, benchRepo); err != nil {
		return err
	}
	_, err := f.syncs.Reconcile(ctx, benchSync)
	return err
}

func (f *followed) git(args ...string) error {
	cmd := exec.Command("git", args...)
	cmd.Dir = f.work
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.work, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=b", "GIT_AUTHOR_EMAIL=b@x", "GIT_COMMITTER_NAME=b", "GIT_COMMITTER_EMAIL=b@x"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (f *followed) manifest(i int, comment string) error {
	text := fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: App\nmetadata:\n  name: app-%05d\n  labels: {tier: web}\nspec:\n  packages: [nginx]\n  resources: {cores: 1, memory: 256Mi, disk: 2Gi}\n"+
		"  ports:\n    - {name: http, port: 80}\n  env:\n    - {name: STAGE, value: %q}\n", i, comment)
	return os.WriteFile(filepath.Join(f.work, fmt.Sprintf("apps-%02d", i/250), fmt.Sprintf("app-%05d.yaml", i)), []byte(text), 0o644)
}

func (f *followed) fill(manifests int) error {
	for i := range manifests {
		if i%250 == 0 {
			if err := os.MkdirAll(filepath.Join(f.work, fmt.Sprintf("apps-%02d", i/250)), 0o755); err != nil {
				return err
			}
		}
		if err := f.manifest(i, "first"); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--bare", "--initial-branch=main", f.bare}, {"init", "--quiet", "--initial-branch=main", "."},
		{"add", "--all"}, {"commit", "--quiet", "-m", "first"}, {"push", "--quiet", f.bare, "main"},
	} {
		if err := f.git(args...); err != nil {
			return err
		}
	}
	return nil
}

// change pushes a commit that changes one line.
func (f *followed) change() (want string, err error) {
	f.changes++
	want = fmt.Sprintf("change %d", f.changes)
	if err := f.manifest(7, want); err != nil {
		return "", err
	}
	for _, args := range [][]string{{"commit", "--quiet", "-am", want}, {"push", "--quiet", f.bare, "main"}} {
		if err := f.git(args...); err != nil {
			return "", err
		}
	}
	return want, nil
}

func (f *followed) stored() string {
	obj, err := f.client.Get(context.Background(), resource.Key{Kind: "App", Namespace: "default", Name: "app-00007"})
	app, ok := obj.(*v1alpha1.App)
	if err != nil || !ok || len(app.GetSpec().GetEnv()) == 0 {
		return ""
	}
	return app.GetSpec().GetEnv()[0].GetValue()
}

// serve runs git's http-backend and counts what it is asked.
func (f *followed) serve(root string, atEnd func(func() error)) (string, error) {
	core, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return "", err
	}
	backend := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(core)), "git-http-backend"), Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1"}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			f.refs.Add(1)
		} else {
			f.packs.Add(1)
		}
		backend.ServeHTTP(w, r)
	})}
	go func() { _ = srv.Serve(l) }()
	atEnd(srv.Close)
	return "http://" + l.Addr().String() + "/repo.git", nil
}

func (g *gitopsArea) first(context.Context) (measured, error) {
	f, err := g.world.get(g.open)
	if err != nil {
		return measured{}, err
	}
	return measured{value: f.firstSync.Seconds(), detail: append([]string{"fetch, decode, check, one transaction on disk; Flux's apply engine took 7.9 s for 1,000 (measured once)"}, f.firstDetail...)}, nil
}

const gitopsRounds = 5

// oneLine is the median time from a pushed commit to its end in the store, told by nobody.
func (g *gitopsArea) oneLine(context.Context) (measured, error) {
	f, err := g.world.get(g.open)
	if err != nil {
		return measured{}, err
	}
	var times []float64
	var writes, memory uint64
	for range gitopsRounds {
		want, err := f.change()
		if err != nil {
			return measured{}, err
		}
		apps, before, start := f.revisions(), allocated(), time.Now()
		if err := f.look(); err != nil {
			return measured{}, err
		}
		times = append(times, time.Since(start).Seconds())
		memory = max(memory, allocated()-before)
		if f.stored() != want {
			return measured{}, fmt.Errorf("the change is not stored")
		}
		writes = max(writes, f.writtenSince(apps))
	}
	slices.Sort(times)
	return measured{value: times[len(times)/2], detail: []string{fmt.Sprintf("%d Apps written for each commit (and the statuses of GitRepository and Sync, and an event), at most %d KiB allocated; Flux's apply engine took 4.0 s of 1,000", writes, memory>>10)}}, nil
}

// allocated is all that was allocated since this process began.
func allocated() uint64 {
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return m.TotalAlloc
}

// revisions are the versions of all Apps.
func (f *followed) revisions() map[string]string {
	objs, _ := f.client.List(context.Background(), "App", "")
	all := make(map[string]string, len(objs))
	for _, o := range objs {
		all[o.GetMetadata().GetName()] = o.GetMetadata().GetResourceVersion()
	}
	return all
}

func (f *followed) writtenSince(before map[string]string) (n uint64) {
	for name, version := range f.revisions() {
		if before[name] != version {
			n++
		}
	}
	return n
}

// unchanged is the median time of a look that finds nothing new.
func (g *gitopsArea) unchanged(context.Context) (measured, error) {
	f, err := g.world.get(g.open)
	if err != nil {
		return measured{}, err
	}
	if err := f.look(); err != nil {
		return measured{}, err
	}
	refs, packs, revision, before := f.refs.Load(), f.packs.Load(), f.store.Revision(), allocated()
	var times []float64
	const rounds = 20
	for range rounds {
		start := time.Now()
		if _, err := f.repo.Reconcile(context.Background(), benchRepo); err != nil {
			return measured{}, err
		}
		times = append(times, float64(time.Since(start))/1e6)
	}
	slices.Sort(times)
	return measured{value: times[len(times)/2], detail: []string{fmt.Sprintf("%d ls-remotes, %d packs and %d writes for %d looks, %d KiB allocated in each, the server's part in this process too; git's backend is a process for each",
		f.refs.Load()-refs, f.packs.Load()-packs, f.store.Revision()-revision, rounds, (allocated()-before)>>10/rounds)}}, nil
}

// pushed is the median time from a webhook's call to the change in the store, with the
// controllers at work.
func (g *gitopsArea) pushed(ctx context.Context) (measured, error) {
	f, err := g.world.get(g.open)
	if err != nil {
		return measured{}, err
	}
	f.start()
	var times []float64
	for range gitopsRounds {
		want, err := f.change()
		if err != nil {
			return measured{}, err
		}
		start := time.Now()
		f.pokes <- benchRepo
		for f.stored() != want {
			if ctx.Err() != nil {
				return measured{}, ctx.Err()
			}
			time.Sleep(time.Millisecond)
		}
		times = append(times, time.Since(start).Seconds())
	}
	slices.Sort(times)
	return measured{value: times[len(times)/2], detail: []string{"from the call to the stored object; Argo CD polls every 180 s by default"}}, nil
}
