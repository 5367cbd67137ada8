package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

// unitDirs is where unit files are looked for, the first match wins.
var unitDirs = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

const (
	wantsDir = "/etc/systemd/system/multi-user.target.wants"

	maxUnitRestarts  = 5                      // as systemd's default start limit
	unitRestartPause = 100 * time.Millisecond // systemd's default RestartSec
	unitStartWait    = 10 * time.Second       // for Type=notify and forking
	maxUnitLogLines  = 1000
)

// unitFile is what the simulated service manager understands of a unit file.
type unitFile struct {
	description string
	execStart   [][]string
	execReload  [][]string
	environment []string
	typ         string // simple, notify, forking, oneshot
	remain      bool   // RemainAfterExit
	restart     string // no, always, on-failure
}

// unit is a service of a running guest.
type unit struct {
	name string
	mu   sync.Mutex
	st   string // inactive, activating, active, deactivating, failed
	stop context.CancelFunc
	done chan struct{} // closed when the last run ended
	log  logBuffer
}

func (u *unit) state() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.st
}

func (u *unit) set(state string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.st = state
}

// logBuffer keeps the last lines that a unit wrote: the guest's journal.
type logBuffer struct {
	mu      sync.Mutex
	lines   []string
	partial []byte
	written int // lines, also those that are not kept any more
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, b...)
	for {
		i := bytes.IndexByte(l.partial, '\n')
		if i < 0 {
			return len(b), nil
		}
		l.lines = append(l.lines, string(l.partial[:i]))
		l.partial = l.partial[i+1:]
		l.written++
		if len(l.lines) > maxUnitLogLines {
			l.lines = slices.Clone(l.lines[len(l.lines)-maxUnitLogLines:])
		}
	}
}

func (l *logBuffer) tail(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n <= 0 || n > len(l.lines) {
		n = len(l.lines)
	}
	return slices.Clone(l.lines[len(l.lines)-n:])
}

// since returns the lines after the first so many, at most n, and how many there are by now.
func (l *logBuffer) since(seen, n int) ([]string, int) {
	l.mu.Lock()
	written := l.written
	l.mu.Unlock()
	fresh := written - seen
	if fresh <= 0 {
		return nil, written
	}
	if n > 0 {
		fresh = min(fresh, n)
	}
	return l.tail(fresh), written
}

func unitName(name string) string {
	if path.Ext(name) == "" || !slices.Contains([]string{".service", ".socket", ".timer", ".target"}, path.Ext(name)) {
		return name + ".service"
	}
	return name
}

// loadUnit reads a unit file; fs.ErrNotExist when there is none.
func (g *Guest) loadUnit(name string) (unitFile, error) {
	for _, dir := range unitDirs {
		raw, err := g.fs.ReadFile(path.Join(dir, name))
		if err == nil {
			return parseUnit(string(raw)), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return unitFile{}, err
		}
	}
	return unitFile{}, fs.ErrNotExist
}

// parseUnit reads the keys that unitFile has; others are ignored, as systemd does
// with those it does not know.
func parseUnit(text string) unitFile {
	u := unitFile{typ: "simple", restart: "no"}
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "Description":
			u.description = value
		case "Type":
			u.typ = value
		case "RemainAfterExit":
			u.remain = value == "yes" || value == "true" || value == "1"
		case "Restart":
			u.restart = value
		case "ExecStart":
			u.execStart = addCommand(u.execStart, value)
		case "ExecReload":
			u.execReload = addCommand(u.execReload, value)
		case "Environment":
			u.environment = append(u.environment, splitUnitWords(value)...)
		}
	}
	return u
}

func addCommand(list [][]string, value string) [][]string {
	words := splitUnitWords(strings.TrimLeft(value, "-@:+!"))
	if len(words) == 0 {
		return nil // an empty assignment resets the list
	}
	return append(list, words)
}

// splitUnitWords splits at blanks, with single and double quotes.
func splitUnitWords(s string) []string {
	var words []string
	var cur strings.Builder
	var quote rune
	open := false
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			cur.WriteRune(r)
		case r == '"' || r == '\'':
			quote, open = r, true
		case r == ' ' || r == '\t':
			if open {
				words = append(words, cur.String())
				cur.Reset()
				open = false
			}
		default:
			cur.WriteRune(r)
			open = true
		}
	}
	if open {
		words = append(words, cur.String())
	}
	return words
}

// startEnabledUnits is what the guest's init does after the start.
func (g *Guest) startEnabledUnits() {
	entries, err := g.fs.ReadDir(wantsDir)
	if err != nil {
		return
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Path < entries[j].Path })
	for _, e := range entries {
		name := path.Base(e.Path)
		b := g.enter()
		if b == nil {
			return
		}
		go func() {
			defer b.running.Done()
			if err := g.startUnit(b.ctx, name); err != nil {
				g.eng.log.Debug("unit did not start at boot", "vmid", g.vmid, "unit", name, "error", err)
			}
		}()
	}
}

// unitOf returns the unit's run-time record, made on first use; nil when stopped.
func (g *Guest) unitOf(name string) *unit {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.run == nil {
		return nil
	}
	u, ok := g.run.units[name]
	if !ok {
		u = &unit{name: name, st: "inactive"}
		g.run.units[name] = u
	}
	return u
}

// startUnit starts a service that is not active and waits until it is up, as its
// Type says.
func (g *Guest) startUnit(ctx context.Context, name string) error {
	file, err := g.loadUnit(name)
	if err != nil {
		return err
	}
	u := g.unitOf(name)
	b := g.enter()
	if u == nil || b == nil {
		return errGuestGone
	}
	u.mu.Lock()
	if u.st == "active" || u.st == "activating" {
		u.mu.Unlock()
		b.running.Done()
		return nil
	}
	run, stop := context.WithCancel(b.ctx)
	u.st, u.stop, u.done = "activating", stop, make(chan struct{})
	done := u.done
	u.mu.Unlock()

	up := make(chan struct{})
	var once sync.Once
	ready := func() { once.Do(func() { u.set("active"); close(up) }) }
	go func() {
		defer b.running.Done()
		defer close(done)
		defer stop()
		g.superviseUnit(run, u, file, ready)
	}()
	switch file.typ {
	case "notify", "forking", "notify-reload":
	case "oneshot":
		<-done
	default:
		ready()
	}
	timer := time.NewTimer(unitStartWait)
	defer timer.Stop()
	select {
	case <-up:
	case <-done:
	case <-timer.C:
		return fmt.Errorf("start of %s timed out", name)
	case <-ctx.Done():
		return ctx.Err()
	}
	if u.state() == "failed" {
		return errUnitFailed
	}
	return nil
}

var (
	errGuestGone  = errors.New("guest is not running")
	errUnitFailed = errors.New("control process exited with error code")
)

// superviseUnit runs the service until it ends for good.
func (g *Guest) superviseUnit(ctx context.Context, u *unit, file unitFile, ready func()) {
	for attempt := 1; ; attempt++ {
		code := 0
		for _, argv := range file.execStart {
			p := &Process{
				Guest: g, Argv: argv, Env: withPath(file.environment), Stdin: bytes.NewReader(nil),
				Stdout: &u.log, Stderr: &u.log, ready: ready,
			}
			if code = g.exec(ctx, p); code != 0 {
				break
			}
		}
		stopped := ctx.Err() != nil
		again := !stopped && attempt < maxUnitRestarts && file.typ != "oneshot" &&
			(file.restart == "always" || file.restart == "on-failure" && code != 0)
		switch {
		case again:
			u.set("activating")
		case stopped:
			u.set("inactive")
			return
		case code != 0:
			fmt.Fprintf(&u.log, "%s: Main process exited, code=exited, status=%d\n", u.name, code)
			u.set("failed")
			return
		case file.remain:
			u.set("active")
			return
		default:
			u.set("inactive")
			return
		}
		fmt.Fprintf(&u.log, "%s: Scheduled restart job, restart counter is at %d.\n", u.name, attempt)
		timer := time.NewTimer(unitRestartPause)
		select {
		case <-ctx.Done():
		case <-timer.C:
			u.set("active")
		}
		timer.Stop()
	}
}

// stopUnit ends the service and waits for it.
func (g *Guest) stopUnit(ctx context.Context, name string) {
	u := g.unitOf(name)
	if u == nil {
		return
	}
	u.mu.Lock()
	stop, done := u.stop, u.done
	u.mu.Unlock()
	if stop != nil {
		stop()
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
	u.set("inactive")
}

// KillUnit ends the service's process as a signal from outside would: the service
// manager sees a failure and restarts it if the unit file says so. It reports whether
// the unit ran.
func (g *Guest) KillUnit(name string) bool {
	name = unitName(name)
	u := g.unitOf(name)
	if u == nil || u.state() != "active" {
		return false
	}
	file, err := g.loadUnit(name)
	g.stopUnit(context.Background(), name)
	u.set("failed")
	if err == nil && (file.restart == "always" || file.restart == "on-failure") {
		if b := g.enter(); b != nil {
			defer b.running.Done()
			_ = g.startUnit(b.ctx, name)
		}
	}
	return true
}

// UnitState returns what systemctl is-active prints: active, inactive, failed...
func (g *Guest) UnitState(name string) string {
	if u := g.unitOf(unitName(name)); u != nil {
		return u.state()
	}
	return "inactive"
}
