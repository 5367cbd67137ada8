package apply

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// PatchType is the media type of a patch.
type PatchType string

// The patches there are.
const (
	// MergePatch is RFC 7386: an object like the one to be, null removes a field, lists are
	// replaced as a whole.
	MergePatch PatchType = "application/merge-patch+json"
	// JSONPatch is RFC 6902: a list of operations. One that fails, also a test, fails all.
	JSONPatch PatchType = "application/json-patch+json"
)

const (
	// MaxPatchBytes bounds a patch, and what the copy operations of one may add.
	MaxPatchBytes = resource.MaxSourceBytes
	// MaxPatchOperations bounds a JSON patch, as Kubernetes does.
	MaxPatchOperations = 10_000
)

// Patch changes an object by a patch of its JSON, as `get -o json` shows it. What comes out
// is admitted like an Update: it must be a valid object of the same key, a resourceVersion
// that the patch sets must be the current one, and status and what the server sets stay as
// they are. A patch that cannot be read or does not fit is resource.FieldErrors.
func (a *Applier) Patch(ctx context.Context, key resource.Key, typ PatchType, patch []byte, opts ...Options) (resource.Object, error) {
	kind, ok := a.reg.Get(key.Kind)
	if !ok {
		return nil, fmt.Errorf("%w %q", resource.ErrUnknownKind, key.Kind)
	}
	if kind.System && !a.system {
		return nil, resource.FieldErrors{systemKind(kind)}
	}
	opt, err := a.options(opts)
	if err != nil {
		return nil, err
	}
	change, err := parsePatch(typ, patch)
	if err != nil {
		return nil, err
	}
	var saved store.Version
	err = a.transact(audit.WithVerb(ctx, "patch", opt.Manager), isDry(opts), func(tx store.Tx) error {
		cur, err := tx.Get(key)
		if err != nil {
			return err
		}
		obj, err := a.patched(kind.Shown(cur), change)
		if err != nil {
			return err
		}
		if wrong := checkSameKey(key, obj); len(wrong) > 0 {
			return wrong
		}
		saved, err = a.replace(tx, kind, cur, obj, opt)
		return err
	})
	if err != nil {
		return nil, err
	}
	return shownVersion(kind, saved)
}

// patched returns what becomes of an object by a change of its JSON.
func (a *Applier) patched(cur resource.Object, change func([]byte) ([]byte, error)) (resource.Object, error) {
	bare := resource.Clone(cur)
	bare.GetMetadata().ManagedFields = nil // a patch speaks of fields, not of who owns them
	data, err := resource.EncodeJSON(bare)
	if err != nil {
		return nil, err
	}
	data, err = change(data)
	if err != nil {
		return nil, badPatch("%v", err)
	}
	return resource.DecodeJSON(a.reg, data)
}

// checkSameKey refuses a patch that makes another object of the one it was applied to.
func checkSameKey(key resource.Key, obj resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	for _, f := range []struct{ path, is, was string }{
		{"kind", obj.GetKind(), key.Kind},
		{"metadata.namespace", obj.GetMetadata().GetNamespace(), key.Namespace},
		{"metadata.name", obj.GetMetadata().GetName(), key.Name},
	} {
		if f.is != f.was {
			errs = append(errs, resource.Forbidden(f.path, f.is, fmt.Sprintf("allowed is %q: a patch cannot change which object this is", f.was)))
		}
	}
	return errs
}

func badPatch(format string, args ...any) error {
	return resource.FieldErrors{{Reason: resource.ReasonSyntax, Allowed: "patch: " + fmt.Sprintf(format, args...)}}
}

// parsePatch returns the change that a patch is.
func parsePatch(typ PatchType, patch []byte) (func([]byte) ([]byte, error), error) {
	if len(patch) > MaxPatchBytes {
		return nil, badPatch("it has %d bytes, allowed are %d", len(patch), MaxPatchBytes)
	}
	switch typ {
	case MergePatch:
		return mergeChange(patch)
	case JSONPatch:
		return operationsChange(patch)
	}
	return nil, badPatch("the type %.80q is not supported, supported are %s and %s", typ, MergePatch, JSONPatch)
}

func mergeChange(patch []byte) (func([]byte) ([]byte, error), error) {
	if !isJSON(patch, '{') {
		return nil, badPatch("a merge patch is one JSON object")
	}
	return func(data []byte) ([]byte, error) { return jsonpatch.MergePatch(data, patch) }, nil
}

func operationsChange(patch []byte) (func([]byte) ([]byte, error), error) {
	if !isJSON(patch, '[') {
		return nil, badPatch("a JSON patch is one JSON list of operations")
	}
	operations, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, badPatch("%v", err)
	}
	if n := len(operations); n > MaxPatchOperations {
		return nil, badPatch("it has %d operations, allowed are %d", n, MaxPatchOperations)
	}
	for i, op := range operations {
		// RFC 6902 demands it, and the library takes it for granted.
		if _, has := op["value"]; !has && slices.Contains([]string{"add", "replace", "test"}, op.Kind()) {
			return nil, badPatch("operation %d (%s) has no value", i, op.Kind())
		}
	}
	options := jsonpatch.NewApplyOptions()
	options.SupportNegativeIndices = false // not in the RFC
	options.AccumulatedCopySizeLimit = MaxPatchBytes
	return func(data []byte) ([]byte, error) { return operations.ApplyWithOptions(data, options) }, nil
}

// isJSON tells whether data is one JSON value that begins with that character.
func isJSON(data []byte, first byte) bool {
	data = bytes.TrimSpace(data)
	return len(data) > 0 && data[0] == first && json.Valid(data)
}
