package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// defaultOperationTimeout is how long the end of an operation is waited for; the daemon
// gives one up after 2 minutes by itself.
const defaultOperationTimeout = 3 * time.Minute

// Phases of an Operation that has ended.
const (
	phaseSucceeded = "Succeeded"
	phaseFailed    = "Failed"
)

func (a *app) restartCommand() *cobra.Command {
	var timeout time.Duration
	var service string
	cmd := &cobra.Command{
		Use:     "restart appliance/NAME",
		Short:   "Restart the services of an appliance",
		Example: "  proxctl restart appliance/proximity\n  proxctl restart appliance/proximity --service caddy",
		Args:    atLeast(1, "appliance/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, keys, err := a.target(cmd.Context(), args, "Appliance")
			if err != nil {
				return err
			}
			op, err := conn.RestartAppliance(cmd.Context(), client.ApplianceOperation{Appliance: keys.Name, Service: service})
			if errors.Is(err, client.ErrNotFound) {
				return missing(keys)
			}
			if err != nil {
				return err
			}
			return a.finish(cmd.Context(), conn, op, timeout, true)
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "only this `service`: dnsmasq, caddy or nat")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultOperationTimeout, "how long to wait for the end")
	return cmd
}

func (a *app) testNATCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "test-nat [APPLIANCE]",
		Short: "Test the way from an appliance to the outside",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("test-nat takes the name of one appliance, found %s", counted(len(args), "argument"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			var want client.ApplianceOperation
			if len(args) == 1 {
				want.Appliance = args[0]
			}
			op, err := conn.TestNAT(cmd.Context(), want)
			if err != nil {
				return err
			}
			return a.finish(cmd.Context(), conn, op, timeout, true)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", defaultOperationTimeout, "how long to wait for the end")
	return cmd
}

// target connects and reads the one object that args name, of one of the kinds.
func (a *app) target(ctx context.Context, args []string, kinds ...string) (*connection, resource.Key, error) {
	conn, err := a.connect(ctx)
	if err != nil {
		return nil, resource.Key{}, err
	}
	keys, err := conn.refs(args)
	if err != nil {
		return nil, resource.Key{}, err
	}
	if len(keys) != 1 {
		return nil, resource.Key{}, usagef("allowed is one object, as KIND/NAME")
	}
	if !slices.Contains(kinds, keys[0].Kind) {
		return nil, resource.Key{}, usagef("%s: allowed is an object of the kind %s", keys[0].Short(), strings.Join(kinds, " or "))
	}
	return conn, keys[0], nil
}

// finish waits for the end of an operation and prints its log and, with verbose, its
// result. An operation that failed is an error.
func (a *app) finish(ctx context.Context, conn *connection, op *v1alpha1.Operation, timeout time.Duration, verbose bool) error {
	if err := positive("timeout", timeout); err != nil {
		return err
	}
	op, err := a.awaitOperation(ctx, conn, op, timeout)
	if err != nil {
		return err
	}
	for _, line := range op.GetStatus().GetLog() {
		fmt.Fprintln(a.Out, term.CleanLog(line))
	}
	if !verbose && len(op.GetStatus().GetLog()) == 0 && op.GetStatus().GetPhase() == phaseSucceeded {
		why := ""
		if said := op.GetStatus().GetResult()["why"]; said != "" {
			why = ": " + term.Clean(said)
		}
		fmt.Fprintf(a.Err, "No log lines%s.\n", why)
	}
	if verbose {
		for _, name := range slices.Sorted(maps.Keys(op.GetStatus().GetResult())) {
			fmt.Fprintf(a.Out, "%s: %s\n", name, term.Clean(op.GetStatus().GetResult()[name]))
		}
	}
	if op.GetStatus().GetPhase() == phaseFailed {
		return fmt.Errorf("operation %s failed: %s", op.GetMetadata().GetName(), op.GetStatus().GetMessage())
	}
	if verbose {
		fmt.Fprintf(a.Out, "%s: %s\n", op.GetStatus().GetPhase(), term.Clean(op.GetStatus().GetMessage()))
	}
	return nil
}

func (a *app) awaitOperation(ctx context.Context, conn *connection, op *v1alpha1.Operation, timeout time.Duration) (*v1alpha1.Operation, error) {
	key := resource.KeyOf(op)
	phase := "Pending"
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimedOut)
	defer cancel()
	errEnded := errors.New("ended")
	opts := client.WatchOptions{Kind: key.Kind, Namespace: key.Namespace, Name: key.Name}
	err := conn.Follow(ctx, opts, func(ev client.Event) error {
		now, ok := ev.Object.(*v1alpha1.Operation)
		switch {
		case !ok:
			return nil
		case ev.Type == client.Deleted:
			return fmt.Errorf("operation %s was deleted before it ended", key.Name)
		}
		op = now
		if p := op.GetStatus().GetPhase(); p != "" {
			phase = p
		}
		if phase == phaseSucceeded || phase == phaseFailed {
			return errEnded
		}
		return nil
	})
	see := fmt.Sprintf("`proxctl describe operation/%s -n %s` shows it", key.Name, key.Namespace)
	switch {
	case errors.Is(err, errEnded):
		return op, nil
	case errors.Is(err, errTimedOut):
		return nil, &notReadyError{fmt.Sprintf("operation %s is still %s after %s: %s; it goes on, %s",
			key.Name, phase, timeout, op.GetStatus().GetMessage(), see)}
	case errors.Is(err, errInterrupted):
		return nil, fmt.Errorf("%w: the operation goes on, %s", err, see)
	}
	return nil, err
}
