// Package controllers_test runs all controllers together against a simulated node with
// guests in memory: the production clients, the production store contract, the node's own
// wire. Everything lives in a synctest bubble, so the clock is simulated: a story that
// waits for an hour takes milliseconds, and bounds on times are exact.
package controllers_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers"
	"github.com/proximity-pve/proximity/controllers/appliance"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem/appliancesim"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/secretref"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// allKinds is one registry for all worlds: it holds no state.
var allKinds = sync.OnceValue(kinds.Registry)

const (
	nodeName     = "pve"
	installation = "installation-1"
	firstVMID    = 20000
	lastVMID     = 20099
	applianceID  = 9999

	// patience bounds, in simulated time, how long a story waits for what must come.
	patience = 3 * time.Minute
	// glance is how often it looks.
	glance = 50 * time.Millisecond
)

// templates are what the node can make guests from.
var templates = []string{"debian-12-proximity_1.0-1_amd64.tar.zst", "debian-12-standard_12.12-1_amd64.tar.zst"}

// world is what outlives a daemon: the node with its guests, and the database.
type world struct {
	*testing.T
	dir    string
	engine *mem.Engine
	sim    *appliancesim.Sim
	node   *pvesim.Node
	// api, ssh (by node) and signer are of wired worlds.
	api      *pipes
	ssh      []*pipes
	signer   ssh.Signer
	store    store.Store
	registry *resource.Registry
	applier  *apply.Applier
	keys     *seal.Keyring
	// kept are copies of appliances' state, which outlive a daemon, too (nil: there are none).
	kept appliance.Keeper
	// peers are the other nodes of a cluster (cluster_test.go), on one fabric with the first.
	fabric *mem.Fabric
	peers  []*peer
	ledger *ledger
	log    journalBuffer
	steps  stepLog
	// admin is a human's way to the API.
	admin *proxmox.Client
	// stale are reads of the store that return what was there before (nil: none do).
	stale *staleReads
	// watches are those of the daemon that go wrong (nil: none do).
	watches *spoiledWatches
	// hostAccess false takes the daemon's way onto the node away.
	hostAccess bool
	// noShell is a node on which the daemon can run no commands.
	noShell string
	// wired worlds have TLS and ssh between the daemon and the node (wire_test.go); others
	// call the node's own handlers (direct_test.go).
	wired  bool
	limits cluster.Limits
	daemon *daemon
}

// inWorld tells a story in a world of its own.
func inWorld(t *testing.T, story func(w *world)) {
	t.Helper()
	t.Parallel()
	inWorldNow(t, story)
}

// inWorldNow tells it before the test goes on.
func inWorldNow(t *testing.T, story func(w *world)) {
	t.Helper()
	inWorldLike(t, worldLike{}, story)
}

// inWiredWorld tells it with the production wire between the daemon and the node.
func inWiredWorld(t *testing.T, story func(w *world)) {
	t.Helper()
	t.Parallel()
	inWorldLike(t, worldLike{wired: true}, story)
}

// inWorldOn tells it with another engine around the guests.
func inWorldOn(t *testing.T, wrap func(*mem.Engine) engine.Engine, story func(w *world)) {
	t.Helper()
	inWorldLike(t, worldLike{wrap: wrap}, story)
}

// worldLike is in what a world differs from others.
type worldLike struct {
	wired bool
	peers int                             // nodes beside the first
	wrap  func(*mem.Engine) engine.Engine // around the guests of the first node
	node  func(c *pvesim.Config)          // changes the node
	// limits are those of the daemon's connection.
	limits cluster.Limits
}

func inWorldLike(t *testing.T, like worldLike, story func(w *world)) {
	t.Helper()
	dir := quickDir(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, like)
		defer w.end()
		story(w)
	})
}

// quickDir is a directory for the files of a world: in memory where the machine has a place for
// that. A world writes thousands of small files and needs none of them afterwards.
func quickDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "proximity-world-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func newWorld(t *testing.T, dir string, like worldLike) *world {
	w := &world{T: t, dir: dir, wired: like.wired, limits: like.limits, ledger: newLedger(), hostAccess: true, registry: allKinds(), fabric: &mem.Fabric{}}
	templateDir := filepath.Join(dir, "templates")
	w.must(os.MkdirAll(templateDir, 0o700))
	for _, name := range templates {
		w.must(os.WriteFile(filepath.Join(templateDir, name), nil, 0o600))
	}
	var err error
	w.engine, err = mem.New(mem.Config{TemplateDir: templateDir, Fabric: w.fabric})
	w.must(err)
	w.sim = appliancesim.Install(w.engine)
	cfg := pvesim.Config{Dir: filepath.Join(dir, "pve"), NodeName: nodeName, Engine: w.engine, TemplateDir: templateDir, Peers: w.addPeers(like.peers, templateDir)}
	if like.wrap != nil {
		cfg.Engine = like.wrap(w.engine)
	}
	if like.node != nil {
		like.node(&cfg)
	}
	w.node, err = pvesim.New(cfg)
	w.must(err)
	w.must(w.node.Boot(t.Context()))
	w.bootPeers()
	if w.wired {
		w.wire()
	}
	w.admin, err = proxmox.New(proxmox.Config{
		Endpoints: []string{"https://node"}, Username: "root@pam", Password: w.node.Credentials().RootPassword, Transport: w.adminTransport(),
	})
	w.must(err)
	w.emptyStore()
	return w
}

// emptyStore begins with a database that has nothing but the connection.
func (w *world) emptyStore() {
	w.Helper()
	w.store = memory.New(w.registry)
	w.keys = seal.NewEphemeral()
	w.applier = apply.New(w.store, w.registry).WithKeys(w.keys)
	w.must(w.applier.EnsureNamespaces(w.Context()))
	_, err := w.applier.System().Create(w.Context(), clusterObject())
	w.must(err)
}

func clusterObject() *v1alpha1.Cluster {
	return &v1alpha1.Cluster{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Cluster"),
		Metadata: &v1alpha1.ObjectMeta{Name: cluster.DefaultName},
		Spec: &v1alpha1.ClusterSpec{
			Endpoints: []string{"https://node"}, GuestAccess: proto.String("ssh"),
			VmidStart: proto.Int32(firstVMID), VmidEnd: proto.Int32(lastVMID), Storage: proto.String("local-lvm"),
			AppTemplate: proto.String("debian-12-standard"), ApplianceTemplate: proto.String("debian-12-proximity"), WanBridge: proto.String("vmbr0"),
		},
	}
}

// end stops everything; a goroutine that is left would fail the test.
func (w *world) end() {
	if w.daemon != nil {
		w.daemon.stop()
	}
	if w.node.Faults().Fired() > 0 {
		time.Sleep(2 * time.Minute) // requests that were left without an answer are given up
	}
	if w.Failed() {
		w.Logf("the daemon's log:\n%s", w.log.tail())
	}
	w.admin.Close()
	if err := w.node.Close(); err != nil {
		w.Errorf("close the node: %v", err)
	}
	if err := w.engine.Close(); err != nil {
		w.Errorf("close the engine: %v", err)
	}
	for _, p := range w.peers {
		if err := p.engine.Close(); err != nil {
			w.Errorf("close the engine of %s: %v", p.name, err)
		}
	}
	if err := w.store.Close(); err != nil {
		w.Errorf("close the store: %v", err)
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// daemon is one life of the controllers: what it has in memory goes with it.
type daemon struct {
	world  *world
	dead   atomic.Bool
	cancel context.CancelFunc
	ended  chan struct{}
	api    *proxmox.Client
	shells map[string]shell // by name of the node
	// manager makes plans.
	manager     *runtime.Manager
	usage       *controllers.Usage
	controllers []*runtime.Controller
}

// start begins a life. There is never more than one.
func (w *world) start() *daemon {
	w.Helper()
	log := slog.New(stepHandler{Handler: slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}), log: &w.steps})
	d := &daemon{world: w, ended: make(chan struct{}), shells: map[string]shell{}}
	for i, n := range w.node.Nodes() {
		d.shells[n.Name()] = w.shellOf(i)
	}
	creds := w.node.Credentials()
	var err error
	d.api, err = proxmox.New(proxmox.Config{
		Endpoints: []string{"https://node"}, TokenID: creds.TokenID, TokenSecret: creds.TokenSecret,
		Transport:   &mortalTransport{daemon: d, http: w.transport()},
		Concurrency: w.limits.Requests, NodeConcurrency: w.limits.NodeRequests, StorageTasks: w.limits.StorageTasks,
	})
	w.must(err)
	way, err := guest.NewOnNode(&mortalShell{d}, guest.ModeAttach)
	w.must(err)
	conn := &cluster.Connection{Name: cluster.DefaultName, API: d.api, Guests: way, Installation: installation, Endpoint: "https://node", Identity: creds.TokenID, Mode: cluster.AccessSSH, Limits: w.limits}
	if w.hostAccess {
		conn.Host = way
	}
	d.controllers, d.usage = controllers.WithUsage(controllers.Deps{Clusters: cluster.NewSet(conn), Secrets: secretref.New(w.keys), Kept: w.kept, Log: log, AppWorkers: controllers.DefaultAppWorkers + w.limits.NodeTasks + w.limits.NodeWork})
	manager := runtime.NewManager(mortalStore{w.store, d}, log, nil, d.controllers...)
	ctx, cancel := context.WithCancel(w.Context())
	d.cancel, d.manager = cancel, manager
	go func() {
		defer close(d.ended)
		var reading sync.WaitGroup
		reading.Go(func() { d.usage.Run(ctx) })
		manager.Run(ctx)
		reading.Wait()
	}()
	w.daemon = d
	return d
}

// stop ends a life as SIGTERM does.
func (d *daemon) stop() {
	d.cancel()
	d.bury()
}

// kill ends a life as SIGKILL does: from now on nothing reaches the store or the node.
func (d *daemon) kill() {
	d.dead.Store(true)
	d.cancel()
}

// bury waits until nothing of a life that was ended is left.
func (d *daemon) bury() {
	<-d.ended
	for _, s := range d.shells {
		_ = s.Close()
	}
	d.api.Close()
	if d.world.daemon == d {
		d.world.daemon = nil
	}
}

// restart kills the daemon and begins another life.
func (w *world) restart() *daemon {
	w.Helper()
	w.daemon.kill()
	w.daemon.bury()
	return w.start()
}

// within waits for what the daemon does by itself, at most the given simulated time.
func (w *world) within(limit time.Duration, what string, ok func() bool) {
	w.Helper()
	for begin := time.Now(); !ok(); time.Sleep(glance) {
		if time.Since(begin) > limit {
			w.Fatalf("%s: not within %s\n%s", what, limit, w.objects())
		}
	}
}

func (w *world) until(what string, ok func() bool) { w.Helper(); w.within(patience, what, ok) }

// apply applies documents as a user does.
func (w *world) apply(yaml string) {
	w.Helper()
	docs, err := resource.DecodeDocuments(w.registry, "story.yaml", []byte(yaml))
	w.must(err)
	_, err = w.applier.ApplySet(w.Context(), docs, apply.Options{Manager: "story"})
	w.must(err)
}

// remove asks for the deletion of objects, in this order.
func (w *world) remove(keys ...resource.Key) {
	w.Helper()
	for _, key := range keys {
		if _, err := w.applier.Delete(w.Context(), key, store.Preconditions{}); err != nil {
			w.Fatalf("delete %s: %v", key, err)
		}
	}
}

// journalBuffer keeps the end of the daemons' log.
type journalBuffer struct {
	mu    sync.Mutex
	lines []string
}

const keepLines = 400

func (b *journalBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(bytes.TrimRight(p, "\n")))
	if len(b.lines) > keepLines {
		b.lines = b.lines[len(b.lines)-keepLines:]
	}
	return len(p), nil
}

func (b *journalBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, "\n")
}

// objects is every object with its conditions, for messages.
func (w *world) objects() string {
	var b strings.Builder
	for _, kind := range []string{"Cluster", "Bridge", "Appliance", "App", "Vhost", "Operation"} {
		for _, o := range w.list(kind) {
			fmt.Fprintf(&b, "%s deleting=%v\n", resource.KeyOf(o), resource.Deleting(o))
			for _, c := range resource.Conditions(o) {
				fmt.Fprintf(&b, "    %-22s %-8s %-20s %s\n", c.GetType(), c.GetStatus(), c.GetReason(), c.GetMessage())
			}
		}
	}
	return b.String()
}
