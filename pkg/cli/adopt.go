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

// adopter is the spec of a kind whose objects take over guests.
type adopter interface {
	GetAdopt() bool
	GetReadOnly() bool
	GetVmid() int32
}

// adoption is the spec of an object that can take over a guest, nil of others.
func adoption(o resource.Object) adopter {
	switch o := o.(type) {
	case *v1alpha1.App:
		return o.GetSpec()
	case *v1alpha1.Appliance:
		return o.GetSpec()
	}
	return nil
}

func (a *app) adoptCommand() *cobra.Command {
	var timeout time.Duration
	var vmid int32
	var yes bool
	var from sources
	cmd := &cobra.Command{
		Use: "adopt app|appliance NAME --vmid N", Short: "Take over a guest that is there as an App or Appliance",
		Long: "Take over a guest that is there as an App or Appliance. First the guest is only looked at: an\n" +
			"object with spec.adopt and spec.readOnly is made, if there is none, and what would be changed is\n" +
			"printed. An Appliance needs a manifest for that (-f), for its Bridge, addresses and zone. Edit\n" +
			"the object until that is what you want, then confirm with --yes: the guest is marked and made\n" +
			"what the object says. Deleting the object leaves the guest, unless its deletionPolicy says Delete.",
		Example: "  proxctl adopt app wiki --vmid 105\n  proxctl edit app/wiki\n  proxctl adopt app wiki --vmid 105 --yes\n" +
			"  proxctl adopt appliance net --vmid 9999 -f net.yaml",
		Args: atLeast(1, "app|appliance NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if vmid == 0 {
				return usagef("--vmid says which guest; it is needed")
			}
			conn, key, err := a.target(cmd.Context(), args, "App", "Appliance")
			if err != nil {
				return err
			}
			return a.adopt(cmd.Context(), conn, key, vmid, from, yes, timeout)
		},
	}
	cmd.Flags().Int32Var(&vmid, "vmid", 0, "`VMID` of the guest")
	cmd.Flags().BoolVar(&yes, "yes", false, "confirm what was shown: mark the guest and change it")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultAdoptTimeout, "how long to wait for the first look at the guest")
	cmd.Flags().StringArrayVarP(&from.files, "filename", "f", nil, "`file` with the manifest of the object, or - for the standard input")
	return cmd
}

func (a *app) adopt(ctx context.Context, conn *connection, key resource.Key, vmid int32, from sources, yes bool, timeout time.Duration) error {
	if err := positive("timeout", timeout); err != nil {
		return err
	}
	obj, err := conn.Get(ctx, key)
	switch {
	case errors.Is(err, client.ErrNotFound) && yes:
		return usagef("%s does not exist, so nothing was shown that could be confirmed; adopt without --yes first", key.Short())
	case errors.Is(err, client.ErrNotFound):
		var wish resource.Object
		if wish, err = a.toAdopt(key, vmid, from); err != nil {
			return err
		}
		obj, err = conn.Create(ctx, wish)
	}
	if err != nil {
		return err
	}
	found := adoption(obj)
	if !found.GetAdopt() || found.GetVmid() != vmid {
		return fmt.Errorf("%s exists and is not one that adopts guest %d (spec.adopt is %v, spec.vmid %d); use another name", key.Short(), vmid, found.GetAdopt(), found.GetVmid())
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

// toAdopt is the object that is to look at a guest: that of the manifest, if there is one.
func (a *app) toAdopt(key resource.Key, vmid int32, from sources) (resource.Object, error) {
	var obj resource.Object
	switch {
	case len(from.files) > 0:
		docs, err := from.read(a.registry, a.In)
		if err != nil {
			return nil, err
		}
		if len(docs) != 1 || docs[0].Object.GetKind() != key.Kind || docs[0].Object.GetMetadata().GetName() != key.Name {
			return nil, usagef("the manifest must have one document, that of %s", key.Short())
		}
		obj = docs[0].Object
	case key.Kind == "Appliance":
		return nil, usagef("%s does not exist; -f FILE names its manifest, with its Bridge, addresses and zone", key.Short())
	default:
		obj = &v1alpha1.App{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String(key.Kind), Metadata: &v1alpha1.ObjectMeta{Name: key.Name}, Spec: &v1alpha1.AppSpec{}}
	}
	obj.GetMetadata().Namespace = key.Namespace
	switch o := obj.(type) {
	case *v1alpha1.App:
		if o.Spec == nil {
			o.Spec = &v1alpha1.AppSpec{}
		}
		o.Spec.Vmid, o.Spec.Adopt, o.Spec.ReadOnly = proto.Int32(vmid), proto.Bool(true), proto.Bool(true)
	case *v1alpha1.Appliance:
		if o.Spec == nil {
			o.Spec = &v1alpha1.ApplianceSpec{}
		}
		o.Spec.Vmid, o.Spec.Adopt, o.Spec.ReadOnly = proto.Int32(vmid), proto.Bool(true), proto.Bool(true)
	}
	return obj, nil
}

// showAdoption waits for the daemon's look at the guest and prints what it would do.
func (a *app) showAdoption(ctx context.Context, conn *connection, key resource.Key, found adopter, timeout time.Duration) error {
	if !found.GetReadOnly() {
		fmt.Fprintf(a.Out, "%s has taken guest %d over already\n", key.Short(), found.GetVmid())
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
	fmt.Fprintf(a.Out, "guest %d is only looked at so far:\n", found.GetVmid())
	for _, part := range strings.Split(last.GetMessage(), "; ") {
		fmt.Fprintf(a.Out, "  %s\n", term.Clean(part))
	}
	fmt.Fprintf(a.Err, "Nothing was changed. Edit %s until this is what you want; adopt with --yes does it.\n", key.Short())
	return nil
}
