package pvesim

import (
	"context"
	"errors"
	"io"
	"strings"
)

// Run runs a program on the node as its ssh server does for root, without a connection: what
// Transport is to the API. It returns the program's exit code; an error when the node is
// not online, or ctx ended.
func (n *Node) Run(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) (exit int, err error) {
	if !n.Online() {
		return 0, errors.New("no route to host")
	}
	if len(argv) == 0 {
		return 0, nil
	}
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	exit = n.runArgv(ctx, argv, stdio{in: stdin, out: stdout, err: stderr})
	return exit, ctx.Err()
}
