package appliance

import (
	"slices"

	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// sortedByAge returns a copy, oldest first: where two claim the same, the older one keeps it.
func sortedByAge[T resource.Object](objs []T) []T {
	out := slices.Clone(objs)
	slices.SortFunc(out, func(a, b T) int { return routing.Older(a.GetMetadata(), b.GetMetadata()) })
	return out
}
