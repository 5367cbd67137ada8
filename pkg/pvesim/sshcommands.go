package pvesim

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/shellwords"
)

// Exit codes of a shell.
const (
	exitUsage    = 2
	exitNotFound = 127
)

// maxHostFile bounds what tee writes on the node.
const maxHostFile = 1 << 20

// hostCommand is a program of the simulated node.
type hostCommand func(n *Node, ctx context.Context, argv []string, s stdio) int

// hostCommands is everything that the node's ssh server can run; init breaks the cycle
// through flock, which runs others.
var hostCommands map[string]hostCommand

func init() {
	hostCommands = map[string]hostCommand{
		"true":       func(*Node, context.Context, []string, stdio) int { return 0 },
		"sync":       func(*Node, context.Context, []string, stdio) int { return 0 },
		"pveversion": hostVersion,
		"cat":        hostCat,
		"sha256sum":  hostSum,
		"tee":        hostTee,
		"mv":         hostMove,
		"rm":         hostRemove,
		"flock":      hostFlock,
		"ifreload":   hostIfreload,
		"pct":        hostPct,
		"lxc-attach": hostAttach,
	}
}

// runCommand splits the line as the login shell would and runs it.
func (n *Node) runCommand(ctx context.Context, line string, s stdio) int {
	argv, err := shellwords.Split(line)
	if err != nil {
		fmt.Fprintf(s.err, "bash: -c: line 1: %v\n", err)
		return exitUsage
	}
	if len(argv) == 0 {
		return 0
	}
	return n.runArgv(ctx, argv, s)
}

func (n *Node) runArgv(ctx context.Context, argv []string, s stdio) int {
	cmd, ok := hostCommands[path.Base(argv[0])]
	if !ok {
		fmt.Fprintf(s.err, "bash: line 1: %s: command not found\n", argv[0])
		return exitNotFound
	}
	name := argv[0]
	if name == "pct" && len(argv) > 1 {
		name += " " + argv[1]
	}
	n.stats.command(name)
	return cmd(n, ctx, argv, s)
}

func hostVersion(_ *Node, _ context.Context, _ []string, s stdio) int {
	fmt.Fprintf(s.out, "pve-manager/%s/%s (running kernel: 6.17.4-1-pve)\n", pveVersion, pveRepoID)
	return 0
}

// hostPath maps a path of the simulated node to a real one: only what is directly in
// /etc/network exists.
func (n *Node) hostPath(name string) (string, error) {
	clean := path.Clean(name)
	if !path.IsAbs(name) || path.Dir(clean) != "/etc/network" {
		return "", fs.ErrNotExist
	}
	return n.path("etc", "network", path.Base(clean)), nil
}

var errNoSpace = errors.New("no space left on device")

// complain prints an error as coreutils do and returns their exit code.
func complain(s stdio, program, name string, err error) int {
	text := err.Error()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text = "No such file or directory"
	case errors.Is(err, fs.ErrPermission):
		text = "Permission denied"
	case errors.Is(err, errNoSpace):
		text = "No space left on device"
	}
	fmt.Fprintf(s.err, "%s: %s: %s\n", program, name, text)
	return 1
}

// operandsOf drops options (words that begin with a dash) up to --.
func operandsOf(argv []string) []string {
	var out []string
	for i, a := range argv[1:] {
		if a == "--" {
			return append(out, argv[i+2:]...)
		}
		if len(a) < 2 || a[0] != '-' {
			out = append(out, a)
		}
	}
	return out
}

func (n *Node) readHostFile(name string) ([]byte, error) {
	real, err := n.hostPath(name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(real)
}

func hostCat(n *Node, _ context.Context, argv []string, s stdio) int {
	code := 0
	for _, name := range operandsOf(argv) {
		data, err := n.readHostFile(name)
		if err != nil {
			code = complain(s, "cat", name, err)
			continue
		}
		_, _ = s.out.Write(data)
	}
	return code
}

func hostSum(n *Node, _ context.Context, argv []string, s stdio) int {
	code := 0
	for _, name := range operandsOf(argv) {
		data, err := n.readHostFile(name)
		if err != nil {
			code = complain(s, "sha256sum", name, err)
			continue
		}
		fmt.Fprintf(s.out, "%x  %s\n", sha256.Sum256(data), name)
	}
	return code
}

func hostTee(n *Node, _ context.Context, argv []string, s stdio) int {
	data, err := io.ReadAll(io.LimitReader(s.in, maxHostFile+1))
	if err == nil && len(data) > maxHostFile {
		err = errNoSpace
	}
	if err != nil {
		return complain(s, "tee", "write error", err)
	}
	_, _ = s.out.Write(data)
	code := 0
	for _, name := range operandsOf(argv) {
		real, err := n.hostPath(name)
		if err == nil {
			err = os.WriteFile(real, data, 0o644)
		}
		if err != nil {
			code = complain(s, "tee", name, err)
		}
	}
	return code
}

func hostMove(n *Node, _ context.Context, argv []string, s stdio) int {
	args := operandsOf(argv)
	if len(args) != 2 {
		fmt.Fprintln(s.err, "mv: missing file operand")
		return 1
	}
	from, err := n.hostPath(args[0])
	if err != nil {
		return complain(s, "mv", "cannot stat '"+args[0]+"'", err)
	}
	to, err := n.hostPath(args[1])
	if err != nil {
		return complain(s, "mv", "cannot move '"+args[0]+"' to '"+args[1]+"'", err)
	}
	if err := os.Rename(from, to); err != nil {
		return complain(s, "mv", "cannot move '"+args[0]+"' to '"+args[1]+"'", err)
	}
	return 0
}

func hostRemove(n *Node, _ context.Context, argv []string, s stdio) int {
	force := len(argv) > 1 && strings.HasPrefix(argv[1], "-") && strings.Contains(argv[1], "f")
	code := 0
	for _, name := range operandsOf(argv) {
		real, err := n.hostPath(name)
		if err == nil {
			err = os.Remove(real)
		}
		if err != nil && !(force && errors.Is(err, fs.ErrNotExist)) {
			code = complain(s, "rm", "cannot remove '"+name+"'", err)
		}
	}
	return code
}

// hostFlock is flock -w SECONDS FILE COMMAND...; the only lock that anybody else takes
// is that of the interfaces file.
func hostFlock(n *Node, ctx context.Context, argv []string, s stdio) int {
	args := argv[1:]
	wait := time.Hour
	if len(args) > 1 && (args[0] == "-w" || args[0] == "--timeout") {
		seconds, err := strconv.ParseFloat(args[1], 64)
		if err != nil {
			fmt.Fprintf(s.err, "flock: invalid timeout value: '%s'\n", args[1])
			return 64
		}
		wait, args = time.Duration(seconds*float64(time.Second)), args[2:]
	}
	if len(args) < 2 {
		fmt.Fprintln(s.err, "flock: requires file descriptor, file or directory")
		return 64
	}
	if path.Clean(args[0]) != interfacesLock {
		return n.runArgv(ctx, args[1:], s)
	}
	unlock, err := n.lockNetwork(ctx, wait)
	if err != nil {
		return 1
	}
	defer unlock()
	return n.runArgv(ctx, args[1:], s)
}

func hostIfreload(n *Node, ctx context.Context, argv []string, s stdio) int {
	if len(argv) != 2 || argv[1] != "-a" {
		fmt.Fprintln(s.err, "ifreload: only ifreload -a is simulated")
		return 1
	}
	if err := n.ifreload(ctx, func(line string) { fmt.Fprintln(s.err, line) }); err != nil {
		return 1
	}
	return 0
}
