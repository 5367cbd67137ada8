package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Mode is which program of the node enters a guest.
type Mode string

const (
	// ModePct is `pct exec`: Proxmox's own way, half a second a run. It tells a guest
	// that is elsewhere from one that does not run.
	ModePct Mode = "pct"
	// ModeAttach is `lxc-attach`, which pct itself ends in: 11 ms a run, but it skips
	// pct's look at the configuration, so a guest that is not on the node at all is
	// reported as ErrNotRunning.
	ModeAttach Mode = "attach"
)

// NodeExec runs one program on a node as root. Implementations promise what [Runner]
// promises; argv reaches the program as it is.
type NodeExec interface {
	Exec(ctx context.Context, node string, argv []string, stdin io.Reader, maxOutput int) (Result, error)
}

// OnNode enters guests from the node they are on, and edits the node's files. It
// implements [Runner] and [Host]. Close it.
type OnNode struct {
	exec NodeExec
	mode Mode
	// oldPct says of nodes whether their pct lacks --keep-env, as before Proxmox VE 8.2.
	oldPct sync.Map
	// interfaces and lock are paths; tests use others.
	interfaces, lock string
}

// Paths on a Proxmox VE node. The lock is the one its network API takes
// (pve-common, PVE/INotify.pm).
const (
	interfacesPath = "/etc/network/interfaces"
	interfacesLock = "/etc/network/.pve-interfaces.lock"
)

// NewOnNode returns the way into guests through exec.
func NewOnNode(exec NodeExec, mode Mode) (*OnNode, error) {
	if mode != ModePct && mode != ModeAttach {
		return nil, fmt.Errorf("guest: unknown mode %q: want %q or %q", mode, ModePct, ModeAttach)
	}
	return &OnNode{exec: exec, mode: mode, interfaces: interfacesPath, lock: interfacesLock}, nil
}

// Close ends the connections of the way onto the node, where it keeps any.
func (o *OnNode) Close() error {
	if c, ok := o.exec.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Run implements [Runner].
func (o *OnNode) Run(ctx context.Context, t Target, c Command) (Result, error) {
	if err := CheckCommand(c); err != nil {
		return Result{}, fmt.Errorf("run in guest %s: %w", t, err)
	}
	res, err := o.run(ctx, t, c)
	if err != nil {
		return Result{}, fmt.Errorf("run %s in guest %s: %w", c.Argv[0], t, err)
	}
	return res, nil
}

// run enters the guest, in the older way where the node's pct refuses the newer one: then
// nothing has run. An input cannot be given twice, so what pct knows is found out before.
func (o *OnNode) run(ctx context.Context, t Target, c Command) (Result, error) {
	old, known := o.oldPct.Load(t.Node)
	if o.mode == ModePct && !known && c.Stdin != nil {
		if _, err := o.run(ctx, t, Command{Argv: []string{"true"}}); err != nil {
			return Result{}, err
		}
		old, known = o.oldPct.Load(t.Node)
	}
	res, err := o.once(ctx, t, c, old == true)
	switch {
	case errors.Is(err, errOldPct) && !known:
		o.oldPct.Store(t.Node, true)
		return o.once(ctx, t, c, true)
	case err == nil && !known:
		o.oldPct.Store(t.Node, false)
	}
	return res, err
}

func (o *OnNode) once(ctx context.Context, t Target, c Command, old bool) (Result, error) {
	argv, err := nodeArgv(o.mode, t.VMID, c, old)
	if err != nil {
		return Result{}, err
	}
	res, err := o.exec.Exec(ctx, t.Node, argv, c.Stdin, c.MaxOutput)
	if err == nil {
		err = entryError(o.mode, res)
	}
	return res, err
}

var (
	_ Runner = (*OnNode)(nil)
	_ Host   = (*OnNode)(nil)
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// nodeArgv is the command that enters the guest and runs c there. old is for a pct without
// --keep-env: it hands its caller's environment on, and env in the guest clears it.
func nodeArgv(mode Mode, vmid int, c Command, old bool) ([]string, error) {
	if vmid < 100 {
		return nil, fmt.Errorf("%d is not a VMID", vmid)
	}
	names := make([]string, 0, len(c.Env))
	for name := range c.Env {
		names = append(names, name)
	}
	slices.Sort(names)

	id := strconv.Itoa(vmid)
	if mode == ModeAttach {
		argv := []string{"lxc-attach", "-n", id, "--clear-env"}
		for _, name := range names {
			argv = append(argv, "-v", name+"="+c.Env[name])
		}
		return append(append(argv, "--"), c.Argv...), nil
	}
	// pct keeps its caller's environment unless told otherwise, and cannot set any: env in
	// the guest does. The -- keeps pct from reading the command's options as its own.
	argv := []string{"pct", "exec", id, "--keep-env", "0", "--"}
	if old {
		argv = append([]string{"pct", "exec", id, "--", "env", "-i"}, attachEnvironment...)
	} else if len(names) > 0 {
		argv = append(argv, "env")
	}
	if len(names) > 0 {
		for _, name := range names {
			argv = append(argv, name+"="+c.Env[name])
		}
	}
	return append(argv, c.Argv...), nil
}

// CheckCommand reports what makes a command impossible to run anywhere.
func CheckCommand(c Command) error {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return errors.New("no program given")
	}
	// env would take NAME=VALUE for an assignment, and a leading dash for an option.
	if strings.Contains(c.Argv[0], "=") || strings.HasPrefix(c.Argv[0], "-") {
		return fmt.Errorf("%.40q cannot be a program's name", c.Argv[0])
	}
	for _, a := range c.Argv {
		if strings.ContainsRune(a, 0) {
			return errors.New("an argument contains a NUL byte")
		}
	}
	for name, value := range c.Env {
		if !envName.MatchString(name) || strings.ContainsRune(value, 0) {
			return fmt.Errorf("environment variable %.40q has a bad name or a NUL byte", name)
		}
	}
	return nil
}

// Messages of the programs that enter a guest. pct ends with 255 for all its own
// failures (pve-container, PVE/CLI/pct.pm), lxc-attach with 1 (lxc, attach.c); a command
// may use the same codes, so the message decides.
var (
	pctNotRunning    = regexp.MustCompile(`(?m)^container '\d+' not running!?$`)
	pctNoGuest       = regexp.MustCompile(`(?m)^Configuration file '\S+' does not exist$`)
	pctOldOption     = regexp.MustCompile(`(?m)^Unknown option: keep-env$`)
	attachNotRunning = regexp.MustCompile(`(?m)^lxc-attach: .*(?:Failed to get init pid|Connection refused)`)
)

// errOldPct asks for the older form.
var errOldPct = errors.New("pct on the node is too old: it lacks exec --keep-env (Proxmox VE 8.2)")

// attachEnvironment is what lxc-attach gives with a cleared environment (lxc, attach.c).
var attachEnvironment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=lxc"}

const (
	pctFailed    = 255
	attachFailed = 1
	notFound     = 127
)

// entryError tells a failure to enter the guest from the command's own failure.
func entryError(mode Mode, res Result) error {
	switch {
	case mode == ModePct && res.ExitCode == pctFailed && pctNotRunning.Match(res.Stderr),
		mode == ModeAttach && res.ExitCode == attachFailed && attachNotRunning.Match(res.Stderr):
		return ErrNotRunning
	case mode == ModePct && res.ExitCode == pctFailed && pctNoGuest.Match(res.Stderr):
		return ErrNoGuest
	case mode == ModePct && res.ExitCode == pctFailed && pctOldOption.Match(res.Stderr):
		return errOldPct
	}
	return nil
}

// firstLine is a command's complaint for an error's text, bounded.
func firstLine(out []byte) string {
	const bound = 300
	s := strings.TrimSpace(string(out[:min(len(out), bound)]))
	s, _, _ = strings.Cut(s, "\n")
	return strings.ToValidUTF8(s, "?")
}
