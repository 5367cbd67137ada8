package client

import (
	"context"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// PatchType is the media type of a patch.
type PatchType string

// The patches that the daemon takes.
const (
	MergePatch PatchType = "application/merge-patch+json" // RFC 7386
	JSONPatch  PatchType = "application/json-patch+json"  // RFC 6902
)

// PatchOptions of a patch.
type PatchOptions struct {
	// Manager owns the fields that the patch changes.
	Manager string
	// DryRun answers with the object as it would be, and changes nothing.
	DryRun bool
	// Force changes an object also when a Sync keeps it as its repository says.
	Force bool
}

// Patch changes an object's metadata and spec by a patch of its JSON. A resourceVersion
// that the patch sets and that is not the current one is ErrConflict.
func (c *Client) Patch(ctx context.Context, key resource.Key, typ PatchType, patch []byte, opts PatchOptions) (resource.Object, error) {
	resp, err := c.rpc.Patch(ctx, &v1alpha1.PatchRequest{Key: keyMessage(key), Type: string(typ), Patch: patch, DryRun: opts.DryRun, FieldManager: opts.Manager, Force: opts.Force})
	return c.one(ctx, resp, err)
}
