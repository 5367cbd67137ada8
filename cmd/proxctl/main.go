// Command proxctl is the command line of Proximity; package cli is all of it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/proximity-pve/proximity/pkg/admin"
	"github.com/proximity-pve/proximity/pkg/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the command says good-bye; a second one ends it at once.
	context.AfterFunc(ctx, stop)
	if admin.IsChild(os.Args[1:]) {
		os.Exit(admin.ChildMain(ctx, os.Args[1:]))
	}
	code := cli.Main(ctx, cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Stopped: admin.Stopped{}}, os.Args[1:])
	os.Exit(code)
}
