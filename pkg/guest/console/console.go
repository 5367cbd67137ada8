package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

const (
	// DefaultSessions is how many consoles of one node are open at once; MaxSessions is
	// what Config.Sessions may be at most: a node has a hundred ports for them.
	DefaultSessions = 8
	MaxSessions     = 32
	// idleAfter is after how long without a run a session is closed: less than the time
	// after which its shell ends by itself.
	idleAfter = 20 * time.Second
	// runLimit bounds a run whose caller sets no deadline.
	runLimit = 30 * time.Minute
)

// API is the part of the Proxmox VE API that consoles need. *proxmox.Client, with Opener,
// has it.
type API interface {
	LXCConfigNow(ctx context.Context, node string, vmid int) (proxmox.LXCConfig, error)
	LXCStatus(ctx context.Context, node string, vmid int) (proxmox.LXCStatus, error)
	Tasks(ctx context.Context, node string, f proxmox.TaskFilter) ([]proxmox.TaskListEntry, error)
	Capabilities(ctx context.Context, node string) (proxmox.Capabilities, error)
	Termproxy(ctx context.Context, node string, vmid int) (proxmox.ConsoleTicket, error)
	DialConsole(ctx context.Context, node string, vmid int, t proxmox.ConsoleTicket) (*proxmox.Console, error)
	ByToken() bool
}

// Config says how consoles are opened.
type Config struct {
	// API opens consoles. Where it has an API token and the node's version lets none open
	// consoles, Login does, which has a user and password; nil is none.
	API, Login API
	// Sessions bounds open consoles per node; 0 means DefaultSessions.
	Sessions int
	Log      *slog.Logger
}

// Runner runs commands in guests through their consoles. It implements [guest.Runner].
// Close it.
type Runner struct {
	api, login API
	sessions   int
	log        *slog.Logger
	// dial makes the terminal of a guest; tests have one without a node.
	dial func(ctx context.Context, t guest.Target) (Terminal, error)
	// patience is how long a shell may take to answer first.
	patience time.Duration

	mu     sync.Mutex
	guests map[guest.Target]*place
	open   map[string]int // by node
	// freed is closed, and made anew, when a console was closed or fell idle.
	freed  chan struct{}
	closed bool
	ended  sync.WaitGroup
	// over ends with Close.
	over   context.Context
	cancel context.CancelFunc
}

// place is a guest's console. busy is held by who uses it, or closes it.
type place struct {
	target  guest.Target
	busy    chan struct{}
	session *session // guarded by busy
	// users counts those who hold busy or wait for it. Guarded by Runner.mu.
	users int
	idle  *time.Timer
}

var _ guest.Runner = (*Runner)(nil)

// New makes a Runner. It contacts nobody.
func New(cfg Config) (*Runner, error) {
	n := cmp.Or(cfg.Sessions, DefaultSessions)
	if n < 1 || n > MaxSessions {
		return nil, fmt.Errorf("console: %d sessions are not within 1 to %d", n, MaxSessions)
	}
	if cfg.API == nil {
		return nil, errors.New("console: no API is given")
	}
	r := &Runner{api: cfg.API, login: cfg.Login, sessions: n, log: cfg.Log, patience: shellWait,
		guests: map[guest.Target]*place{}, open: map[string]int{}, freed: make(chan struct{})}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.over, r.cancel = context.WithCancel(context.Background())
	r.dial = r.dialAPI
	return r, nil
}

// Run implements [guest.Runner].
func (r *Runner) Run(ctx context.Context, t guest.Target, c guest.Command) (guest.Result, error) {
	text, err := program(c)
	if err == nil && tooLong(c.Stdin) {
		err = errTooBig
	}
	if err != nil {
		return guest.Result{}, fmt.Errorf("run in guest %s: %w", t, err)
	}
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	defer context.AfterFunc(r.over, cancel)()
	res, err := r.run(ctx, t, text, c)
	if err != nil && r.over.Err() != nil {
		err = fmt.Errorf("%w: consoles are closed", guest.ErrUnreachable)
	}
	if err != nil {
		return guest.Result{}, fmt.Errorf("run %s in guest %s: %w", c.Argv[0], t, err)
	}
	return res, nil
}

func (r *Runner) run(ctx context.Context, t guest.Target, text []byte, c guest.Command) (guest.Result, error) {
	p, err := r.enter(ctx, t)
	if err != nil {
		return guest.Result{}, err
	}
	defer r.leave(p)
	limit := c.MaxOutput
	if limit <= 0 {
		limit = guest.DefaultMaxOutput
	}
	for again := false; ; again = true {
		kept := p.session != nil
		if err := r.ensure(ctx, p); err != nil {
			return guest.Result{}, err
		}
		res, sent, err := p.session.run(ctx, text, c.Stdin, limit)
		if err == nil {
			return res, nil
		}
		r.drop(p, (*session).abandon)
		if ctx.Err() != nil {
			return guest.Result{}, ctx.Err()
		}
		// A kept console may have died unnoticed. Its input cannot be read again.
		if !kept || sent || again || c.Stdin != nil {
			return guest.Result{}, runError(err)
		}
	}
}

func runError(err error) error {
	switch {
	case errors.Is(err, errNoDir):
		return fmt.Errorf("%w: %w", guest.ErrNoShell, err)
	case errors.Is(err, errClosed), errors.Is(err, errSilent), errors.Is(err, errGarbled), errors.Is(err, errDamaged):
		return fmt.Errorf("%w: %w", guest.ErrUnreachable, err)
	}
	return err
}

// enter waits for the guest's console to be free.
func (r *Runner) enter(ctx context.Context, t guest.Target) (*place, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, fmt.Errorf("%w: consoles are closed", guest.ErrUnreachable)
	}
	p := r.guests[t]
	if p == nil {
		p = &place{target: t, busy: make(chan struct{}, 1)}
		r.guests[t] = p
	}
	p.users++
	r.ended.Add(1)
	r.mu.Unlock()
	select {
	case p.busy <- struct{}{}:
		if p.idle != nil {
			p.idle.Stop()
		}
		return p, nil
	case <-ctx.Done():
		r.forget(p)
		return nil, ctx.Err()
	}
}

// leave gives the console to the next one, or keeps it for a while.
func (r *Runner) leave(p *place) {
	if p.session != nil {
		p.idle = time.AfterFunc(idleAfter, func() { r.closeIdle(p) })
	}
	<-p.busy
	r.forget(p)
}

// forget counts a user out, and the place with the last one.
func (r *Runner) forget(p *place) {
	r.mu.Lock()
	p.users--
	if p.users == 0 && r.guests[p.target] == p && len(p.busy) == 0 && p.session == nil {
		delete(r.guests, p.target)
	}
	r.wake()
	r.mu.Unlock()
	r.ended.Done()
}

// wake tells those who wait for a console of a node to look again. r.mu is held.
func (r *Runner) wake() {
	close(r.freed)
	r.freed = make(chan struct{})
}

// ensure opens the place's console, if need be in the place of an idle one.
func (r *Runner) ensure(ctx context.Context, p *place) error {
	if p.session != nil {
		return nil
	}
	for {
		r.mu.Lock()
		granted := r.open[p.target.Node] < r.sessions
		if granted {
			r.open[p.target.Node]++
		}
		freed := r.freed
		r.mu.Unlock()
		if granted {
			break
		}
		if r.evict(p.target.Node) {
			continue
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s, err := r.openSession(ctx, p.target)
	if err != nil {
		r.release(p.target.Node)
		return err
	}
	p.session = s
	return nil
}

func (r *Runner) openSession(ctx context.Context, t guest.Target) (*session, error) {
	term, err := r.dial(ctx, t)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, term, r.patience)
	if err == nil {
		r.log.Debug("console opened", "guest", t.String())
		return s, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, r.openError(ctx, t, err)
}

// openError finds out why a shell could not be had: a guest that does not run shows a
// closed console.
func (r *Runner) openError(ctx context.Context, t guest.Target, err error) error {
	if s, statusErr := r.api.LXCStatus(ctx, t.Node, t.VMID); statusErr == nil && !s.Running() {
		return guest.ErrNotRunning
	}
	return runError(err)
}

func (r *Runner) release(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[node]--; r.open[node] == 0 {
		delete(r.open, node)
	}
	r.wake()
}

// drop closes the place's console. The caller holds busy.
func (r *Runner) drop(p *place, how func(*session)) {
	if p.session == nil {
		return
	}
	how(p.session)
	p.session = nil
	r.release(p.target.Node)
}

// evict closes an idle console of the node, if there is one.
func (r *Runner) evict(node string) bool {
	r.mu.Lock()
	var idle []*place
	for t, p := range r.guests {
		if t.Node == node && p.users == 0 {
			idle = append(idle, p)
		}
	}
	r.mu.Unlock()
	for _, p := range idle {
		if r.closeIdle(p) {
			return true
		}
	}
	return false
}

// closeIdle closes the place's console unless somebody uses it.
func (r *Runner) closeIdle(p *place) bool {
	r.mu.Lock()
	if p.users > 0 || r.guests[p.target] != p || r.closed {
		r.mu.Unlock()
		return false
	}
	p.users++
	r.ended.Add(1)
	r.mu.Unlock()
	p.busy <- struct{}{}
	closed := p.session != nil
	r.drop(p, (*session).leave)
	<-p.busy
	r.forget(p)
	return closed
}

// Close ends runs under way and closes all consoles.
func (r *Runner) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	// From here on nobody enters, and no timer closes anything.
	r.ended.Wait()
	var closing sync.WaitGroup
	for _, p := range r.guests {
		if p.session != nil {
			p.idle.Stop()
			closing.Go(p.session.leave)
		}
	}
	closing.Wait()
	clear(r.guests)
	return nil
}
