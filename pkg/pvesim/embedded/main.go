package embedded

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
)

// Roles of the processes behind the sub-command.
const (
	roleInit   = "init"   // process 1 of the node's process-id namespace (lxc)
	roleServer = "server" // the node itself
)

// Files that a node's process is born with; os/exec puts the first extra file at 3.
const (
	fdReady = iota + 3
	fdControl
	fdAPI
	fdSSH
	fdForward
	fdForwardTLS
	fdEnd // one past the last
)

// childArgs is what Ensure tells the process that it starts.
type childArgs struct {
	Role      string
	DataDir   string
	CacheDir  string
	Engine    string
	Instance  string
	Reason    string // why the engine is not lxc
	HostNetNS string // the network namespace that the node must not be in
}

// subcommand is the hidden first argument of the executable.
const subcommand = "embedded-node"

func firstRole(engine string) string {
	if engine == EngineLXC {
		return roleInit
	}
	return roleServer
}

// argv is the command line behind the executable's name.
func (a childArgs) argv() []string {
	return []string{subcommand, "--role=" + a.Role, "--data-dir=" + a.DataDir, "--cache-dir=" + a.CacheDir,
		"--engine=" + a.Engine, "--instance=" + a.Instance, "--reason=" + a.Reason, "--host-netns=" + a.HostNetNS}
}

func parseArgs(args []string) (childArgs, error) {
	var a childArgs
	set := flag.NewFlagSet(subcommand, flag.ContinueOnError)
	set.StringVar(&a.Role, "role", "", "init or server")
	set.StringVar(&a.DataDir, "data-dir", "", "data directory of the daemon")
	set.StringVar(&a.CacheDir, "cache-dir", "", "cache of templates and packages")
	set.StringVar(&a.Engine, "engine", "", "lxc or mem")
	set.StringVar(&a.Instance, "instance", "", "name of this run")
	set.StringVar(&a.Reason, "reason", "", "why the engine is not lxc")
	set.StringVar(&a.HostNetNS, "host-netns", "", "network namespace of the parent")
	if err := set.Parse(args); err != nil {
		return a, err
	}
	if a.DataDir == "" || a.Instance == "" {
		return a, errors.New("this sub-command is started by the daemon, not by hand")
	}
	return a, nil
}

// NodeMain is the entry of the hidden sub-command; args are those behind it. It returns
// the exit code. It is not for users: it expects the files that Ensure hands over.
func NodeMain(args []string) int { return nodeMain(args, newPVENode) }

func nodeMain(args []string, makeNode nodeFactory) int {
	a, err := parseArgs(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, subcommand+":", err)
		return 2
	}
	for fd := 3; fd < fdEnd; fd++ {
		closeOnExec(fd) // nothing that the node starts may hold its sockets open
	}
	ready := os.NewFile(fdReady, "ready")
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("role", a.Role, "instance", a.Instance)
	switch a.Role {
	case roleInit:
		return runInit(a, ready, log)
	case roleServer:
		return runServer(a, makeNode, ready, log)
	}
	report(ready, fmt.Errorf("role %q is unknown", a.Role))
	return 2
}

// report tells the parent how the start went, once; the parent may be gone.
func report(ready *os.File, err error) {
	var r readiness
	if err != nil {
		r.Error = err.Error()
	}
	line, _ := json.Marshal(r)
	_, _ = ready.Write(append(line, '\n'))
	_ = ready.Close()
}

// inheritSockets turns the handed-over files into listeners.
func inheritSockets() (*sockets, error) {
	s := &sockets{}
	for fd, target := range map[int]*net.Listener{
		fdControl: &s.control, fdAPI: &s.api, fdSSH: &s.ssh, fdForward: &s.forward, fdForwardTLS: &s.forwardTLS,
	} {
		f := os.NewFile(uintptr(fd), "socket")
		l, err := net.FileListener(f)
		_ = f.Close() // FileListener made its own
		if err != nil {
			s.close()
			return nil, fmt.Errorf("take over socket %d: %w", fd, err)
		}
		*target = l
	}
	return s, nil
}

// placeholders are the templates that exist for guests in memory, whose content nobody
// reads, when the cache has none.
var placeholders = []string{
	"debian-12-standard_12.12-1_amd64.tar.zst",
	"debian-12-proximity_1.0_amd64.tar.zst",
}

// templateDir is where the node finds templates.
func (a childArgs) templateDir() (string, error) {
	cached := filepath.Join(a.CacheDir, "templates")
	if found, _ := filepath.Glob(filepath.Join(cached, "*.tar.*")); a.Engine == EngineLXC || len(found) > 0 {
		return cached, nil
	}
	dir := filepath.Join(nodeDir(a.DataDir), "templates")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make template directory: %w", err)
	}
	for _, name := range placeholders {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("placeholder\n"), 0o644); err != nil {
			return "", fmt.Errorf("make template: %w", err)
		}
	}
	return dir, nil
}
