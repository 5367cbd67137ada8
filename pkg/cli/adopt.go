package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// defaultAdoptTimeout is how long the daemon's first look at a guest is waited for.
const defaultAdoptTimeout = 30 * time.Second

func (a *app) adoptCommand() *cobra.Command {
	var timeout time.Duration
	var vmid int32
	var yes bool
	cmd := &cobra.Command{
		Use: "adopt app NAME --vmid N", Short: "Take over a guest that is there as an App",
		Long: "Take over a guest that is there as an App. First the guest is only looked at: an App with\n" +
			"spec.adopt and spec.readOnly is made, if there is none, and what would be changed is printed.\n" +
			"Edit the App until that is what you want, then confirm with --yes: the guest is marked and made\n" +
			"what the App says. Deleting the App leaves the guest, unless its deletionPolicy says Delete.",
		Example: "  proxctl adopt app wiki --vmid 105\n  proxctl edit app/wiki\n  proxctl adopt app wiki --vmid 105 --yes",
		Args:    atLeast(1, "app NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if vmid == 0 {
				return usagef("--vmid says which guest; it is needed")
			}
			conn, key, err := a.target(cmd.Context(), args, "App")
			if err != nil {
				return err
			}
			return a.adopt(cmd.Context(), conn, key, vmid, yes, timeout)
		},
	}
	cmd.Flags().Int32Var(&vmid, "vmid", 0, "`VMID` of the guest")
	cmd.Flags().BoolVar(&yes, "yes", false, "confirm what was shown: mark the guest and change it")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultAdoptTimeout, "how long to wait for the first look at the guest")
	return cmd
}

func (a *app) adopt(ctx context.Context, conn *connection, key resource.Key, vmid int32, yes bool, timeout time.Duration) error {
	if err := positive("timeout", timeout); err != nil {
		return err
	}
	obj, err := conn.Get(ctx, key)
	switch {
	case errors.Is(err, client.ErrNotFound) && yes:
		return usagef("%s does not exist, so nothing was shown that could be confirmed; adopt without --yes first", key.Short())
	case errors.Is(err, client.ErrNotFound):
		obj, err = conn.Create(ctx, &v1alpha1.App{
			ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
			Metadata: &v1alpha1.ObjectMeta{Name: key.Name, Namespace: key.Namespace},
			Spec:     &v1alpha1.AppSpec{Vmid: proto.Int32(vmid), Adopt: proto.Bool(true), ReadOnly: proto.Bool(true)},
		})
	}
	if err != nil {
		return err
	}
	found, ok := obj.(*v1alpha1.App)
	if spec := found.GetSpec(); !ok || !spec.GetAdopt() || spec.GetVmid() != vmid {
		return fmt.Errorf("%s exists and is not one that adopts guest %d (spec.adopt is %v, spec.vmid %d); use another name", key.Short(), vmid, spec.GetAdopt(), spec.GetVmid())
	}
	if yes {
		if _, err := conn.Patch(ctx, key, client.MergePatch, []byte(`{"spec":{"readOnly":false}}`), client.PatchOptions{}); err != nil {
			return err
		}
		fmt.Fprintf(a.Out, "%s takes guest %d over; `proxctl wait %s --for=condition=Ready` waits for the end\n", key.Short(), vmid, key.Short())
		return nil
	}
	return a.showAdoption(ctx, conn, key, found, timeout)
}

// showAdoption waits for the daemon's look at the guest and prints what it would do.
func (a *app) showAdoption(ctx context.Context, conn *connection, key resource.Key, found *v1alpha1.App, timeout time.Duration) error {
	if !found.GetSpec().GetReadOnly() {
		fmt.Fprintf(a.Out, "%s has taken guest %d over already\n", key.Short(), found.GetSpec().GetVmid())
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimedOut)
	defer cancel()
	errLooked := errors.New("looked")
	var last *v1alpha1.Condition
	err := conn.Follow(ctx, client.WatchOptions{Kind: key.Kind, Namespace: key.Namespace, Name: key.Name}, func(ev client.Event) error {
		if ev.Object == nil {
			return nil
		}
		if ev.Type == client.Deleted {
			return fmt.Errorf("%s was deleted", key.Short())
		}
		gen := ev.Object.GetMetadata().GetGeneration()
		if c := resource.FindCondition(ev.Object, "Ready"); c != nil {
			last = c
		}
		stalled := resource.FindCondition(ev.Object, "Stalled")
		if stalled.GetObservedGeneration() == gen && stalled != nil {
			last = stalled
			return errLooked
		}
		if last.GetStatus() == "True" && last.GetObservedGeneration() == gen {
			return errLooked
		}
		return nil
	})
	switch {
	case errors.Is(err, errTimedOut):
		return &notReadyError{fmt.Sprintf("the guest has not been looked at within %s: %s", timeout, last.GetMessage())}
	case !errors.Is(err, errLooked):
		return err
	case last.GetReason() != "ReadOnly" && last.GetStatus() == "True" && last.GetType() == "Stalled":
		return fmt.Errorf("%s: %s", last.GetReason(), last.GetMessage())
	}
	fmt.Fprintf(a.Out, "guest %d is only looked at so far:\n", found.GetSpec().GetVmid())
	for _, part := range strings.Split(last.GetMessage(), "; ") {
		fmt.Fprintf(a.Out, "  %s\n", term.Clean(part))
	}
	fmt.Fprintf(a.Err, "Nothing was changed. Edit %s until this is what you want; adopt with --yes does it.\n", key.Short())
	return nil
}
