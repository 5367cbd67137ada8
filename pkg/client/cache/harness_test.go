package cache_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/client/cache"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/server/servertest"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// What the example leaves behind.
var (
	exampleServer *servertest.Server
	exampleStore  *memory.Store
	exampleDir    string
)

func TestMain(m *testing.M) {
	code := m.Run()
	if exampleServer != nil {
		if err := errors.Join(exampleServer.Stop(), exampleStore.Close()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		_ = os.RemoveAll(exampleDir)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// daemon is a server on a database, both of which can be killed and opened again.
type daemon struct {
	t    *testing.T
	path string
	st   *bolt.Store
	srv  *servertest.Server
	apps *client.Objects[*v1alpha1.App]
}

func newDaemon(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{t: t, path: filepath.Join(t.TempDir(), "state.db")}
	d.open()
	var err error
	if d.srv, err = servertest.New(t.TempDir(), d.st, kinds.Registry()); err != nil {
		t.Fatal(err)
	}
	d.check(d.srv.Start())
	c, err := d.srv.Client()
	d.check(err)
	d.apps = client.For[*v1alpha1.App](c)
	t.Cleanup(func() {
		_ = c.Close()
		d.check(d.srv.Stop())
		d.check(d.st.Close())
	})
	return d
}

func (d *daemon) check(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) open() {
	var err error
	d.st, err = bolt.Open(d.path, kinds.Registry(), bolt.Options{})
	d.check(err)
}

// restart is a daemon that ends and is started again on its database.
func (d *daemon) restart(between func()) {
	d.t.Helper()
	d.check(d.srv.Stop())
	d.check(d.st.Close())
	if between != nil {
		between()
	}
	d.open()
	d.srv.SetStore(d.st)
	d.check(d.srv.Start())
}

func app(name, node string) *v1alpha1.App {
	return &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{Namespace: "default", Name: name},
		Spec:     &v1alpha1.AppSpec{Node: proto.String(node)},
	}
}

func (d *daemon) put(name, node string) {
	d.t.Helper()
	d.apply(app(name, node))
}

func (d *daemon) apply(a *v1alpha1.App) {
	d.t.Helper()
	d.insist(func() error {
		_, _, err := d.apps.Apply(context.Background(), a, client.ApplyOptions{Manager: "test"})
		return err
	})
}

func (d *daemon) remove(name string) {
	d.t.Helper()
	d.insist(func() error {
		_, err := d.apps.Delete(context.Background(), "default", name, "")
		return err
	})
}

// insist tries again while the connection, which an informer may have tried in vain during a
// restart, rests from that.
func (d *daemon) insist(call func() error) {
	d.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := call()
		if err == nil {
			return
		}
		if !errors.Is(err, client.ErrUnavailable) || time.Now().After(end) {
			d.t.Fatal(err)
		}
	}
}

// run starts an informer that ends with the test.
func (d *daemon) run(i *cache.Informer[*v1alpha1.App]) (stop func()) {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			d.t.Errorf("run ended with %v", err)
		}
	})
	d.t.Cleanup(stop)
	return stop
}

// journal is a handler that writes down what it is told, and that holds the handler to its
// contract: what it knows and what it is told fit together.
type journal struct {
	mu    sync.Mutex
	lines []string
	knows map[string]*v1alpha1.App
	wrong []string
}

func (j *journal) handler() cache.Handler[*v1alpha1.App] {
	note := func(line string, fits bool) {
		j.lines = append(j.lines, line)
		if !fits {
			j.wrong = append(j.wrong, line)
		}
	}
	return cache.Handler[*v1alpha1.App]{
		Add: func(a *v1alpha1.App) {
			j.mu.Lock()
			defer j.mu.Unlock()
			name := a.GetMetadata().GetName()
			note("add "+name+" "+a.GetSpec().GetNode(), j.knows[name] == nil)
			j.knows[name] = a
		},
		Update: func(old, a *v1alpha1.App) {
			j.mu.Lock()
			defer j.mu.Unlock()
			name := a.GetMetadata().GetName()
			note("update "+name+" "+old.GetSpec().GetNode()+">"+a.GetSpec().GetNode(),
				j.knows[name] == old && old.GetMetadata().GetResourceVersion() != a.GetMetadata().GetResourceVersion())
			j.knows[name] = a
		},
		Delete: func(t cache.Tombstone[*v1alpha1.App]) {
			j.mu.Lock()
			defer j.mu.Unlock()
			name := t.Object.GetMetadata().GetName()
			note(fmt.Sprintf("delete %s %s unknown=%v", name, t.Object.GetSpec().GetNode(), t.Unknown), j.knows[name] != nil)
			delete(j.knows, name)
		},
	}
}

func newJournal() *journal { return &journal{knows: map[string]*v1alpha1.App{}} }

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "; ")
}

// eventually waits for something that must become true; only a failing test waits it out.
func eventually(t *testing.T, what func() string, want string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		got := what()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (j *journal) expect(t *testing.T, want string) {
	t.Helper()
	eventually(t, j.text, want)
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.wrong) > 0 {
		t.Errorf("told what does not fit: %v", j.wrong)
	}
}
