package access

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// weaknesses are the paths of the fields of an App or Appliance that give guests less isolation
// than is the default; none of nil and of other kinds. A test has every field of both judged.
func weaknesses(o resource.Object) (paths []string) {
	add := func(path string, weak bool) {
		if weak {
			paths = append(paths, path)
		}
	}
	switch o := o.(type) {
	case *v1alpha1.App:
		// On the uplink's bridge nothing is between the guest and whatever else is there, such as
		// Proxmox.
		add("spec.network.fallback", o.GetSpec().GetNetwork().GetFallback() == networkWAN)
		add("spec.adoptWeaker", o.GetSpec().GetAdoptWeaker())
	case *v1alpha1.Appliance:
		// It is the default of all its Apps.
		add("spec.fallback", o.GetSpec().GetFallback() == networkWAN)
		add("spec.adoptWeaker", o.GetSpec().GetAdoptWeaker())
		// Each private range behind the uplink is one that guests could not reach before.
		for _, to := range o.GetSpec().GetNat().GetAllowedDestinations() {
			add(fmt.Sprintf("spec.nat.allowedDestinations (%s)", to), true)
		}
	}
	return paths
}

const networkWAN = "WAN"

// adopts tells whether an object takes a guest over that the platform did not make.
func adopts(o resource.Object) bool {
	switch o := o.(type) {
	case *v1alpha1.App:
		return o.GetSpec().GetAdopt()
	case *v1alpha1.Appliance:
		return o.GetSpec().GetAdopt()
	}
	return false
}

// checkGuest: to take over a guest, and what makes guests weaker than they were, takes the
// right to.
func checkGuest(ctx context.Context, was, is resource.Object) error {
	kind, namespace := is.GetKind(), is.GetMetadata().GetNamespace()
	if adopts(is) && !adopts(was) {
		if err := auth.Authorize(ctx, auth.VerbAdopt, kind, namespace); err != nil {
			return err
		}
	}
	had := weaknesses(was)
	for _, path := range weaknesses(is) {
		if slices.Contains(had, path) {
			continue
		}
		if err := auth.Authorize(ctx, auth.VerbWeaken, kind, namespace); err != nil {
			return fmt.Errorf("%s gives guests less isolation: %w", path, err)
		}
	}
	return nil
}

// managementIn is the path of the field by which a Vhost leads to the management UI of an appliance,
// "" for none.
func managementIn(o resource.Object) string {
	v, _ := o.(*v1alpha1.Vhost)
	for i, rule := range v.GetSpec().GetRules() {
		for j, b := range rule.GetBackends() {
			if b.GetManagementUi() {
				return fmt.Sprintf("spec.rules[%d].backends[%d].managementUI", i, j)
			}
		}
	}
	return ""
}

// checkManagement: to lead a name to the management UI takes the right to, and so does every change
// of such a Vhost, for each of its fields is a part of who comes there, and how.
func checkManagement(ctx context.Context, was, is resource.Object) error {
	path := managementIn(is)
	if path == "" {
		return nil
	}
	before, _ := was.(*v1alpha1.Vhost)
	if managementIn(was) != "" && proto.Equal(before.GetSpec(), is.(*v1alpha1.Vhost).GetSpec()) {
		return nil
	}
	if err := auth.Authorize(ctx, auth.VerbWeaken, is.GetKind(), is.GetMetadata().GetNamespace()); err != nil {
		return fmt.Errorf("%s opens the management of the network: %w", path, err)
	}
	return nil
}
