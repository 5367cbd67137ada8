// Command pvesim is a simulated Proxmox VE cluster, to test tools against.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/proximity-pve/proximity/pkg/pvesim/standalone"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := standalone.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "pvesim:", err)
	if errors.Is(err, standalone.ErrUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}
