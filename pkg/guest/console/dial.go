package console

import (
	"context"
	"errors"
	"fmt"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// ShellMode is the value that a guest's key cmode must have, and have had when the guest
// was started.
const ShellMode = "shell"

// consoleTask is the type of the task that serves a console.
const consoleTask = "vncproxy"

// dialAPI opens the guest's console.
func (r *Runner) dialAPI(ctx context.Context, t guest.Target) (Terminal, error) {
	api, err := r.opener(ctx, t.Node)
	if err != nil {
		return nil, err
	}
	config, err := api.LXCConfigNow(ctx, t.Node, t.VMID)
	if err != nil {
		return nil, apiError(ctx, err)
	}
	if mode := config.Value("cmode"); mode != ShellMode {
		return nil, fmt.Errorf("%w: its console asks for a login; set its key cmode to %s and restart it", guest.ErrNoShell, ShellMode)
	}
	ticket, err := api.Termproxy(ctx, t.Node, t.VMID)
	if err != nil {
		return nil, apiError(ctx, err)
	}
	if err := others(ctx, api, t, ticket); err != nil {
		return nil, err
	}
	term, err := api.DialConsole(ctx, t.Node, t.VMID, ticket)
	if errors.Is(err, proxmox.ErrConsoleRefused) && api.ByToken() {
		return nil, fmt.Errorf("%w: %w", errTokens, err)
	}
	if err != nil {
		return nil, apiError(ctx, err)
	}
	return term, nil
}

// errTokens is for servers whose consoles take users' tickets only.
var errTokens = fmt.Errorf("%w: API tokens cannot open consoles on this node before pve-container 6.1.3: "+
	"give guestAccess.user and guestAccess.passwordFile of a user with VM.Console, or upgrade", guest.ErrAuth)

// opener chooses whose credentials open consoles of a node.
func (r *Runner) opener(ctx context.Context, node string) (API, error) {
	if !r.api.ByToken() {
		return r.api, nil
	}
	can, err := r.api.Capabilities(ctx, node)
	switch {
	case err != nil:
		return nil, apiError(ctx, err)
	case can.ConsoleTokens == proxmox.Yes:
		return r.api, nil
	case r.login != nil:
		return r.login, nil
	case can.ConsoleTokens == proxmox.No:
		return nil, errTokens
	}
	return r.api, nil
}

// others refuses a console that somebody else has open: it is the same terminal. What the
// caller may not see does not count.
func others(ctx context.Context, api API, t guest.Target, mine proxmox.ConsoleTicket) error {
	tasks, err := api.Tasks(ctx, t.Node, proxmox.TaskFilter{VMID: t.VMID, Type: consoleTask})
	if err != nil {
		return apiError(ctx, err)
	}
	for _, task := range tasks {
		if !task.UPID.IsZero() && task.UPID.User != mine.User {
			return fmt.Errorf("%w: %s has its console open", guest.ErrUnreachable, task.UPID.User)
		}
	}
	return nil
}

// apiError tells what an answer of the API means for a run.
func apiError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case proxmox.IsNotExist(err):
		return fmt.Errorf("%w: %w", guest.ErrNoGuest, err)
	case proxmox.IsNotRunning(err):
		return fmt.Errorf("%w: %w", guest.ErrNotRunning, err)
	case proxmox.IsUnauthorized(err), proxmox.IsForbidden(err), errors.Is(err, proxmox.ErrFingerprint), errors.Is(err, proxmox.ErrSecondFactor):
		return fmt.Errorf("%w: %w", guest.ErrAuth, err)
	case proxmox.IsUnavailable(err), proxmox.IsUnknownOutcome(err):
		return fmt.Errorf("%w: %w", guest.ErrUnreachable, err)
	}
	return err
}
