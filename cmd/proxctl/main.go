// Command proxctl is the command line of Proximity; package cli is all of it.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/proximity-pve/proximity/pkg/admin"
	"github.com/proximity-pve/proximity/pkg/cli"
)

// gcPercent is the collector's pace unless the operator has set one (GOGC): a command that
// applies 10,000 documents takes an eighth less of the processor, and a tenth more memory.
const gcPercent = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the command says good-bye; a second one ends it at once.
	context.AfterFunc(ctx, stop)
	if admin.IsChild(os.Args[1:]) {
		os.Exit(admin.ChildMain(ctx, os.Args[1:]))
	}
	code := cli.Main(ctx, cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Stopped: admin.Stopped{}}, os.Args[1:])
	os.Exit(code)
}
