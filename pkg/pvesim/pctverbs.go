package pvesim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// pctVerb is a verb of pct for one guest that exists.
type pctVerb func(n *Node, ctx context.Context, vmid int, args []string, s stdio) int

var pctVerbs = map[string]pctVerb{
	"config":   pctConfig,
	"enter":    pctEnter,
	"push":     pctPush,
	"pull":     pctPull,
	"start":    pctPower("vzstart", false, "CT %d already running", (*Node).start),
	"stop":     pctPower("vzstop", true, "CT %d not running", (*Node).stopNow),
	"shutdown": pctPower("vzshutdown", true, "CT %d not running", (*Node).shutDownNow),
}

// pctConfig prints the configuration, as GET config shows it.
func pctConfig(n *Node, _ context.Context, vmid int, _ []string, s stdio) int {
	g, err := n.guests.load(n, vmid)
	if err != nil {
		fmt.Fprintln(s.err, err)
		return exitPct
	}
	values := g.conf.Effective()
	for _, key := range slices.Sorted(maps.Keys(values)) {
		value := values[key]
		if key == "description" {
			value = strings.ReplaceAll(value, "\n", "%0A") // on one line
		}
		fmt.Fprintf(s.out, "%s: %s\n", key, value)
	}
	for _, kv := range g.conf.Raw {
		fmt.Fprintf(s.out, "%s: %s\n", kv[0], kv[1])
	}
	return 0
}

// pctEnter is lxc-attach without a command: a shell on what stdin is.
func pctEnter(n *Node, ctx context.Context, vmid int, _ []string, s stdio) int {
	if !n.running(ctx, vmid) {
		fmt.Fprintf(s.err, "container '%d' not running!\n", vmid)
		return exitPct
	}
	return n.attach(ctx, vmid, []string{"/bin/sh"}, hostEnv, s)
}

// pctPower runs a power action as root@pam and waits for its task, whose failure is
// pct's.
func pctPower(kind string, wantRunning bool, refusal string, act func(*Node, *tasks.Task, int) error) pctVerb {
	return func(n *Node, ctx context.Context, vmid int, _ []string, s stdio) int {
		if n.running(ctx, vmid) != wantRunning {
			fmt.Fprintf(s.err, refusal+"\n", vmid)
			return exitPct
		}
		upid, err := n.startTask(kind, vmidText(vmid), access.Root, func(t *tasks.Task) error { return act(n, t, vmid) })
		if err == nil {
			var i tasks.Info
			if i, err = n.tasks.Wait(ctx, upid); err == nil && i.Failed() {
				err = errors.New(i.Exit)
			}
		}
		if err != nil {
			fmt.Fprintln(s.err, err)
			return exitPct
		}
		return 0
	}
}

func (n *Node) stopNow(t *tasks.Task, vmid int) error {
	return n.withGuest(t.Context(), vmid, func(*guestFile, *guestconf.Config) (bool, error) {
		return false, n.engine.Stop(t.Context(), vmid)
	})
}

func (n *Node) shutDownNow(t *tasks.Task, vmid int) error {
	return n.shutDown(t, vmid, defaultShutdownTimeout*time.Second, false)
}

// shutDown is the body of a shutdown task.
func (n *Node) shutDown(t *tasks.Task, vmid int, timeout time.Duration, force bool) error {
	return n.withGuest(t.Context(), vmid, func(*guestFile, *guestconf.Config) (bool, error) {
		return false, n.halt(t.Context(), vmid, timeout, force)
	})
}

// copyArgs reads SOURCE DESTINATION [--perms MODE] [--user U] [--group G].
func copyArgs(args []string) (from, to, perms string, err error) {
	var paths []string
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		switch strings.TrimLeft(name, "-") {
		case "perms", "user", "group":
			if !strings.HasPrefix(name, "-") {
				paths = append(paths, args[i])
				continue
			}
			if !joined {
				if i++; i == len(args) {
					return "", "", "", errors.New("400 not enough arguments")
				}
				value = args[i]
			}
			if strings.HasSuffix(name, "perms") {
				perms = value
			}
		default:
			if strings.HasPrefix(args[i], "-") {
				//lint:ignore ST1005 the real text
				return "", "", "", fmt.Errorf("Unknown option: %s\n400 unable to parse option", strings.TrimLeft(name, "-"))
			}
			paths = append(paths, args[i])
		}
	}
	if len(paths) < 2 {
		return "", "", "", errors.New("400 not enough arguments")
	}
	return paths[0], paths[1], perms, nil
}

// pctPush copies a file of the node into a running guest. A copy that fails prints why
// and still exits with 0: pct does not look at the outcome of its task.
func pctPush(n *Node, ctx context.Context, vmid int, args []string, s stdio) int {
	from, to, perms, err := copyArgs(args)
	if err != nil {
		fmt.Fprintln(s.err, err)
		return exitPct
	}
	data, err := n.readHostFile(from)
	switch {
	case !n.running(ctx, vmid):
		fmt.Fprintf(s.err, "can't push file to stopped container\n")
		return exitPct
	case err != nil:
		fmt.Fprintf(s.err, "failed to open '%s' for reading: No such file or directory\n", from)
		return 0
	}
	var problems bytes.Buffer
	code, err := n.engine.Exec(ctx, vmid, engine.Command{Argv: []string{"tee", to}, Env: clearEnv, Stdin: bytes.NewReader(data), Stderr: &problems})
	if err == nil && code == 0 && perms != "" {
		code, err = n.engine.Exec(ctx, vmid, engine.Command{Argv: []string{"chmod", perms, to}, Env: clearEnv, Stderr: &problems})
	}
	if err != nil || code != 0 {
		fmt.Fprintf(s.err, "failed to create file: %s: No such file or directory\n%s", to, problems.String())
	}
	return 0
}

// pctPull copies a file of a running guest to the node.
func pctPull(n *Node, ctx context.Context, vmid int, args []string, s stdio) int {
	from, to, _, err := copyArgs(args)
	if err != nil {
		fmt.Fprintln(s.err, err)
		return exitPct
	}
	if !n.running(ctx, vmid) {
		fmt.Fprintf(s.err, "can't pull file from stopped container\n")
		return exitPct
	}
	var data bytes.Buffer
	code, err := n.engine.Exec(ctx, vmid, engine.Command{Argv: []string{"cat", from}, Env: clearEnv, Stdout: &data})
	if err != nil || code != 0 || data.Len() > maxHostFile {
		fmt.Fprintf(s.err, "failed to open '%s': No such file or directory\n", from)
		return 0
	}
	real, err := n.hostPath(to)
	if err == nil {
		err = os.WriteFile(real, data.Bytes(), 0o644)
	}
	if err != nil {
		fmt.Fprintf(s.err, "failed to open '%s' for writing: No such file or directory\n", to)
	}
	return 0
}
