// Command proximityd is the daemon.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/proximity-pve/proximity/pkg/admin"
	"github.com/proximity-pve/proximity/pkg/daemon"
	"github.com/proximity-pve/proximity/pkg/pvesim/embedded"
	"github.com/proximity-pve/proximity/pkg/version"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "embedded-node" {
		os.Exit(embedded.NodeMain(os.Args[2:])) // the embedded node's own process
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	command, args := run, os.Args[1:]
	if len(args) > 0 && args[0] == "admin" { // on the data of a daemon that is stopped
		command, args = admin.Run, args[1:]
	}
	if err := command(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "proximityd:", err)
		var usage usageError
		if errors.As(err, &usage) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

// usageError is a command line that makes no sense: exit code 2.
type usageError struct{ error }

func run(ctx context.Context, args []string) error {
	flags := pflag.NewFlagSet("proximityd", pflag.ContinueOnError)
	config := flags.String("config", "", "configuration file (YAML)")
	showVersion := flags.Bool("version", false, "print the version and exit")
	destroy := flags.Bool("destroy-node", false, "remove the embedded node of --data-dir with all its guests, and exit")
	set := daemon.Flags(flags)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return usageError{err}
	}
	if *showVersion {
		fmt.Println("proximityd", version.String())
		return nil
	}
	cfg, err := set(*config)
	if err != nil {
		return err
	}
	if *destroy {
		return daemon.DestroyNode(ctx, cfg)
	}
	return daemon.Run(ctx, cfg)
}
