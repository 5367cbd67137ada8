package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Errors of a run that did not take place, or whose end was not seen. They are
// found with errors.Is; the text around them says more.
var (
	// ErrNotRunning: the guest exists on that node but has no running init.
	ErrNotRunning = errors.New("guest is not running")
	// ErrNoGuest: the node has no guest with that VMID. It may have migrated.
	ErrNoGuest = errors.New("no such guest on the node")
	// ErrUnreachable: the node could not be reached, or the connection broke. The
	// command may have run.
	ErrUnreachable = errors.New("node is unreachable")
	// ErrHostKey: the node answered with a host key that is not the pinned one.
	// Somebody must look at it; retrying is useless.
	ErrHostKey = errors.New("host key is not the expected one")
	// ErrAuth: the node refuses our key, password or token, or they lack a right.
	ErrAuth = errors.New("node refuses our credentials")
	// ErrNoShell: this way needs a shell in the guest, with its usual tools, and there is
	// none to be had. Only a change of the guest helps.
	ErrNoShell = errors.New("no shell can be had in the guest")
)

// DefaultMaxOutput bounds stdout and stderr, each, of a command that sets no bound
// of its own: enough for any configuration file or status listing that we read.
const DefaultMaxOutput = 1 << 20

// Target names a guest: a VMID on a node. The node is the name Proxmox uses.
type Target struct {
	Node string
	VMID int
}

// String renders the target for logs and errors.
func (t Target) String() string { return fmt.Sprintf("%d on %s", t.VMID, t.Node) }

// Command is one program run in a guest as root, with an otherwise empty
// environment.
type Command struct {
	// Argv is the program and its arguments. It must not be empty.
	Argv []string
	// Env is added to the guest's default environment. Names are of the form
	// [A-Za-z_][A-Za-z0-9_]*. Values are visible in the node's process list: no
	// secrets here, use Stdin.
	Env map[string]string
	// Stdin is copied to the program, then closed. nil is an empty input.
	Stdin io.Reader
	// MaxOutput bounds stdout and stderr, each, in bytes; more is cut and flagged.
	// 0 means DefaultMaxOutput.
	MaxOutput int
}

// Result is what a command left behind. It is meaningful only beside a nil error.
type Result struct {
	// ExitCode is the program's; 127 not found, 126 not executable, 128+n killed by
	// signal n.
	ExitCode int
	Stdout   []byte
	Stderr   []byte
	// Truncated says that Stdout or Stderr lacks its end.
	Truncated bool
}

// Runner runs commands in guests. Implementations are safe for concurrent use and
// bound how many run at once.
type Runner interface {
	// Run runs the command and waits for its end. Cancelling ctx closes the
	// command's connection; the program in the guest may live on.
	Run(ctx context.Context, t Target, c Command) (Result, error)
}

// Host does on the node itself what the Proxmox VE API cannot: bridges whose names
// its network API refuses live in /etc/network/interfaces, edited here.
type Host interface {
	// ReadInterfaces returns /etc/network/interfaces.
	ReadInterfaces(ctx context.Context, node string) ([]byte, error)
	// WriteInterfaces replaces the file, atomically and under Proxmox's own lock,
	// provided that it still holds was; otherwise it changes nothing and returns
	// ErrChanged.
	WriteInterfaces(ctx context.Context, node string, was, now []byte) error
	// ReloadNetwork makes the file's content live (ifreload -a). It fails with the
	// program's output when any interface could not be configured.
	ReloadNetwork(ctx context.Context, node string) error
}

// ErrChanged: the file is no longer what the caller read. Read, decide and write
// again.
var ErrChanged = errors.New("file was changed by somebody else")
