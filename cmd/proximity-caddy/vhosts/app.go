package vhosts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

const (
	// lookEvery is how often the file is looked at when nothing announces a change: a watch
	// can be lost with the directory, and there may be none to be had.
	lookEvery = time.Second
	// restEvery is how often handlers are looked at that nobody uses.
	restEvery = time.Minute
	// tryAtOnce is up to how many new lines are tried out right after a change, so that what is
	// wrong with them is told before the first request finds it. Of more, that many every
	// tryEvery.
	tryAtOnce = 64
	tryEvery  = 250 * time.Millisecond
	// maxTold bounds the lines of a report, and maxToldBytes each of them.
	maxTold      = 100
	maxToldBytes = 500
)

func init() {
	caddy.RegisterModule(new(App))
	caddy.RegisterModule(new(Handler))
	caddy.RegisterModule(new(Permission))
}

// App keeps the table for all handlers of a configuration.
type App struct {
	// File is the table.
	File string `json:"file"`

	ctx   caddy.Context
	log   *zap.Logger
	table atomic.Pointer[table]
	// making: handlers are made one at a time, because Caddy's context is not for several.
	making sync.Mutex
	// trying is held while a change is read and its lines are tried out: who asks for a report
	// waits until it is complete.
	trying  sync.Mutex
	seen    stamp    // of the file that was read last
	untried []*entry // lines that were too many to be tried out at once
	stop    chan struct{}
	done    sync.WaitGroup
	// broken is why the file that is there now is not served; nil when it is.
	broken atomic.Pointer[string]
}

// stamp tells one version of a file from another without reading it. The time of
// modification alone does not: whoever writes the file may set it.
type stamp struct {
	inode             uint64
	modified, changed time.Time
	size              int64
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{modified: info.ModTime(), size: info.Size()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode, s.changed = sys.Ino, time.Unix(sys.Ctim.Unix())
	}
	return s
}

// CaddyModule implements caddy.Module.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "proximity_vhosts", New: func() caddy.Module { return new(App) }}
}

// Provision reads the table. That there is none yet, or that it cannot be read, is no reason
// not to start: everything else is served.
func (a *App) Provision(ctx caddy.Context) error {
	if !filepath.IsAbs(a.File) {
		return fmt.Errorf("proximity_vhosts: file: an absolute path is needed, found %q", a.File)
	}
	a.ctx, a.log, a.stop = ctx, ctx.Logger(), make(chan struct{})
	a.table.Store(&table{})
	// Handlers that are made later ask for these; they must be there by then, because the
	// configuration's list of apps does not change after the start.
	for _, app := range []string{"events", "tls"} {
		if _, err := ctx.App(app); err != nil {
			return err
		}
	}
	return nil
}

// Start reads the table and follows the file.
func (a *App) Start() error {
	// The kernel's watches are few, and shared with others. Without one changes are seen late.
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(filepath.Dir(a.File))
	}
	if err != nil {
		a.log.Warn("the table's directory cannot be watched; changes are seen late", zap.Error(err))
	}
	a.load()
	a.done.Add(1)
	go a.follow(watcher)
	return nil
}

// Stop ends the following; the handlers end with the configuration's context.
func (a *App) Stop() error {
	close(a.stop)
	a.done.Wait()
	for _, e := range a.table.Load().entries {
		e.retire()
	}
	return nil
}

func (a *App) follow(watcher *fsnotify.Watcher) {
	defer a.done.Done()
	var events chan fsnotify.Event
	var troubles chan error
	if watcher != nil {
		defer watcher.Close()
		events, troubles = watcher.Events, watcher.Errors
	}
	look, rest, try := time.NewTicker(lookEvery), time.NewTicker(restEvery), time.NewTicker(tryEvery)
	defer look.Stop()
	defer rest.Stop()
	defer try.Stop()
	for {
		select {
		case <-a.stop:
			return
		case ev := <-events:
			if ev.Name == a.File {
				a.load()
			}
		case err := <-troubles:
			a.log.Warn("watch the table", zap.Error(err))
		case <-look.C:
			if watcher != nil {
				// A directory that was made anew is another to the kernel. It tells nothing if
				// this one is watched already, and there may be none at the moment.
				_ = watcher.Add(filepath.Dir(a.File))
			}
			a.lookAgain()
		case <-try.C:
			a.tryMore()
		case now := <-rest.C:
			for _, e := range a.table.Load().entries {
				e.rest(now)
			}
		}
	}
}

// lookAgain reads the file if it is another than the one that was read.
func (a *App) lookAgain() {
	info, err := os.Stat(a.File)
	if err != nil {
		if a.seen != (stamp{}) {
			a.load() // so that it is told
		}
		return
	}
	if stampOf(info) != a.seen {
		a.load()
	}
}

// load reads the file and puts its table in place of the one before.
func (a *App) load() {
	a.trying.Lock()
	defer a.trying.Unlock()
	err := a.reload()
	if err == nil {
		a.broken.Store(nil)
		return
	}
	why := err.Error()
	a.broken.Store(&why)
	if !errors.Is(err, fs.ErrNotExist) {
		a.log.Error("the table is not served; the one before is", zap.Error(err))
	}
}

func (a *App) reload() error {
	a.seen = stamp{}
	f, err := os.Open(a.File)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	a.seen = stampOf(info)
	data, err := readTable(f, info.Size())
	if err != nil {
		return err
	}
	old := a.table.Load()
	next, c, err := parse(data, old)
	if err != nil {
		return err
	}
	a.table.Store(next)
	for _, e := range c.gone {
		e.retire()
	}
	a.tryOut(c.fresh)
	a.log.Info("table", zap.String("version", next.Version), zap.Int("entries", len(next.entries)),
		zap.Int("changed", len(c.fresh)), zap.Int("problems", len(next.problems)))
	return nil
}

func readTable(r io.Reader, size int64) ([]byte, error) {
	if size > maxTableBytes {
		return nil, fmt.Errorf("the table has more than %d bytes", maxTableBytes)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotWhole, err)
	}
	return data, nil
}

// tryOut makes the handlers of new entries. When they are many, only of those that need
// them at once; the others are tried one after the other later.
func (a *App) tryOut(changed []*entry) {
	if len(changed) > tryAtOnce {
		a.untried = changed
		for _, e := range changed {
			if e.eager {
				a.try(e)
			}
		}
		return
	}
	for _, e := range changed {
		a.try(e)
	}
}

func (a *App) try(e *entry) {
	for scheme := range e.chain {
		if _, leave, err := e.enter(scheme, a.provision); err != nil {
			a.log.Error("virtual host cannot be served", zap.String("id", e.id), zap.Error(err))
		} else {
			leave()
		}
	}
}

// tryMore tries some of the entries that wait for it. What nobody has asked for is not kept:
// the handlers of 10,000 hosts would be hundreds of megabytes.
func (a *App) tryMore() {
	n := min(len(a.untried), tryAtOnce)
	for _, e := range a.untried[:n] {
		a.try(e)
		e.rest(time.Now().Add(2 * idleTime))
	}
	if a.untried = a.untried[n:]; len(a.untried) == 0 {
		a.untried = nil
	}
}

func (a *App) provision(raw json.RawMessage) (caddyhttp.RouteList, func(), error) {
	a.making.Lock()
	defer a.making.Unlock()
	return provision(a.ctx, raw)
}

// report is what the check host answers: the version that is served, then what is wrong, a
// line each, of which none is longer than maxToldBytes.
func (a *App) report() string {
	a.trying.Lock()
	defer a.trying.Unlock()
	t := a.table.Load()
	lines := []string{t.Version}
	if why := a.broken.Load(); why != nil {
		lines = append(lines, fmt.Sprintf("file: %q", *why))
	}
	lines = append(lines, t.problems...)
	for _, e := range t.entries {
		if len(lines) > maxTold {
			break
		}
		if why := e.trouble(); why != nil {
			lines = append(lines, fmt.Sprintf("%s: %q", e.id, why.Error()))
		}
	}
	for i, text := range lines {
		if len(text) > maxToldBytes {
			lines[i] = text[:maxToldBytes]
		}
	}
	return strings.Join(lines, "\n") + "\n"
}
