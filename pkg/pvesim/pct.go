package pvesim

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// exitPct is how pct ends when it fails itself.
const exitPct = 255

// What a command in a guest finds in its environment when nothing is kept: lxc-attach
// sets PATH, and container says where it runs.
var clearEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=lxc"}

// hostEnv is the environment that pct exec passes on by default.
var hostEnv = []string{"PATH=/sbin:/bin:/usr/sbin:/usr/bin", "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash", "LANG=en_US.UTF-8", "container=lxc"}

// hostPct is pct exec, list, status, unlock and the verbs of pctVerbs.
func hostPct(n *Node, ctx context.Context, argv []string, s stdio) int {
	if len(argv) < 2 {
		fmt.Fprintln(s.err, "ERROR: no command specified")
		return exitPct
	}
	switch args := argv[2:]; argv[1] {
	case "list":
		return pctList(n, ctx, s)
	case "exec":
		return pctExec(n, ctx, args, s)
	case "status", "unlock":
		vmid, err := pctVMID(n, args)
		if err != nil {
			fmt.Fprintln(s.err, err)
			return exitPct
		}
		if argv[1] == "status" {
			status := "stopped"
			if n.running(ctx, vmid) {
				status = "running"
			}
			fmt.Fprintln(s.out, "status:", status)
			return 0
		}
		return pctUnlock(n, ctx, vmid, s)
	default:
		verb, ok := pctVerbs[argv[1]]
		if !ok {
			fmt.Fprintf(s.err, "ERROR: unknown command 'pct %s'\n", argv[1])
			return exitPct
		}
		vmid, err := pctVMID(n, args)
		if err != nil {
			fmt.Fprintln(s.err, err)
			return exitPct
		}
		return verb(n, ctx, vmid, args[1:], s)
	}
}

// pctVMID reads the guest's number; there must be a configuration.
func pctVMID(n *Node, args []string) (int, error) {
	if len(args) == 0 {
		return 0, errors.New("400 not enough arguments")
	}
	vmid, err := strconv.Atoi(args[0])
	if err != nil {
		return 0, fmt.Errorf("400 Parameter verification failed.\nvmid: type check ('integer') failed - got '%s'", args[0])
	}
	_, err = n.guests.load(n, vmid)
	return vmid, err
}

func pctList(n *Node, ctx context.Context, s stdio) int {
	fmt.Fprintf(s.out, "%-10s %-10s %-12s %-20s\n", "VMID", "Status", "Lock", "Name")
	for _, g := range n.guests.all(n) {
		status := "stopped"
		if n.running(ctx, g.vmid) {
			status = "running"
		}
		fmt.Fprintf(s.out, "%-10d %-10s %-12s %-20s\n", g.vmid, status, g.conf.Values["lock"], guestName(g.vmid, g.conf.Values))
	}
	return 0
}

// pctUnlock removes the lock option, the only way to clear a leaked one.
func pctUnlock(n *Node, ctx context.Context, vmid int, s stdio) int {
	unlock, err := n.guests.lock(ctx, vmid, n.cfg.LockTimeout)
	if err == nil {
		defer unlock()
		var g *guestFile
		if g, err = n.guests.load(n, vmid); err == nil {
			conf := g.conf.Clone()
			delete(conf.Values, "lock")
			err = n.guests.store(n, vmid, conf)
		}
	}
	if err != nil {
		fmt.Fprintln(s.err, err)
		return exitPct
	}
	return 0
}

// pctExec is pct exec VMID [--keep-env 0|1] -- COMMAND...: it looks at the
// configuration and whether the guest runs, then does what lxc-attach does.
func pctExec(n *Node, ctx context.Context, args []string, s stdio) int {
	if d := n.cfg.ExecLatency + n.cfg.Latency.Exec; d > 0 && !sleep(ctx, d) {
		return exitPct
	}
	if len(args) == 0 {
		fmt.Fprintln(s.err, "400 not enough arguments")
		return exitPct
	}
	env := hostEnv
	rest := args[1:]
	for len(rest) > 0 && strings.HasPrefix(rest[0], "-") && rest[0] != "--" {
		value := ""
		switch {
		case strings.HasPrefix(rest[0], "--keep-env="):
			value, rest = strings.TrimPrefix(rest[0], "--keep-env="), rest[1:]
		case (rest[0] == "--keep-env" || rest[0] == "-keep-env") && len(rest) > 1:
			value, rest = rest[1], rest[2:]
		default:
			fmt.Fprintf(s.err, "Unknown option: %s\n400 unable to parse option\n", strings.TrimLeft(rest[0], "-"))
			return exitPct
		}
		if value == "0" {
			env = clearEnv
		}
	}
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	vmid, err := pctVMID(n, args)
	if err != nil {
		fmt.Fprintln(s.err, err)
		return exitPct
	}
	if len(rest) == 0 {
		fmt.Fprintln(s.err, "missing command")
		return exitPct
	}
	if !n.running(ctx, vmid) {
		fmt.Fprintf(s.err, "container '%d' not running!\n", vmid)
		return exitPct
	}
	return n.attach(ctx, vmid, rest, env, s)
}

// hostAttach is lxc-attach -n VMID [--clear-env] [-v K=V]... -- COMMAND...
func hostAttach(n *Node, ctx context.Context, argv []string, s stdio) int {
	if d := n.cfg.Latency.Attach; d > 0 && !sleep(ctx, d) {
		return 1
	}
	name, env := "", hostEnv
	rest := argv[1:]
	for len(rest) > 0 && strings.HasPrefix(rest[0], "-") {
		opt := rest[0]
		rest = rest[1:]
		if opt == "--" {
			break
		}
		switch {
		case opt == "--clear-env":
			env = append([]string{}, clearEnv...)
		case opt == "--keep-env":
		case (opt == "-n" || opt == "--name" || opt == "-v" || opt == "--set-var") && len(rest) > 0:
			if opt == "-n" || opt == "--name" {
				name = rest[0]
			} else {
				env = append(env[:len(env):len(env)], rest[0])
			}
			rest = rest[1:]
		default:
			fmt.Fprintf(s.err, "lxc-attach: unrecognized option '%s'\n", opt)
			return 1
		}
	}
	vmid, err := strconv.Atoi(name)
	if err != nil || len(rest) == 0 {
		fmt.Fprintln(s.err, "lxc-attach: missing container name or command")
		return 1
	}
	return n.attach(ctx, vmid, rest, env, s)
}

// attach runs a command in a guest; what the engine cannot do is a failure of
// lxc-attach, exit code 1.
func (n *Node) attach(ctx context.Context, vmid int, argv, env []string, s stdio) int {
	code, err := n.engine.Exec(ctx, vmid, engine.Command{Argv: argv, Env: env, Stdin: s.in, Stdout: s.out, Stderr: s.err})
	switch {
	case errors.Is(err, engine.ErrNotRunning) || errors.Is(err, engine.ErrNotExist):
		fmt.Fprintf(s.err, "lxc-attach: %d: ../src/lxc/attach.c: get_attach_context: 478 Connection refused - Failed to get init pid\n", vmid)
		return 1
	case err != nil:
		fmt.Fprintf(s.err, "lxc-attach: %d: %v\n", vmid, err)
		return 1
	}
	return code
}
