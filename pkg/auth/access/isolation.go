package access

import (
	"context"
	"fmt"
	"slices"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
)

// weakening are the fields of an App that can give its guest less isolation than is the
// default, and when they do. A test has every field of the spec judged.
var weakening = []struct {
	path string
	weak func(*v1alpha1.AppSpec) bool
}{
	// On the uplink's bridge nothing is between the guest and whatever else is there, such as
	// Proxmox.
	{"spec.network.fallback", func(s *v1alpha1.AppSpec) bool { return s.GetNetwork().GetFallback() == "WAN" }},
}

// weaknesses are the paths of the fields that do.
func weaknesses(a *v1alpha1.App) []string {
	var paths []string
	for _, w := range weakening {
		if w.weak(a.GetSpec()) {
			paths = append(paths, w.path)
		}
	}
	return paths
}

// checkIsolation: what makes a guest weaker than it was takes the right to.
func checkIsolation(ctx context.Context, was, is *v1alpha1.App) error {
	had := weaknesses(was)
	for _, path := range weaknesses(is) {
		if slices.Contains(had, path) {
			continue
		}
		if err := auth.Authorize(ctx, auth.VerbWeaken, "App", is.GetMetadata().GetNamespace()); err != nil {
			return fmt.Errorf("%s gives the guest less isolation: %w", path, err)
		}
	}
	return nil
}
