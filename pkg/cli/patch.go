package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// patchTypes are the words of --type.
var patchTypes = map[string]client.PatchType{"merge": client.MergePatch, "json": client.JSONPatch}

type patchOptions struct {
	selection
	writeFlags
	typ         string
	patch       string
	file        string
	subresource string
}

func (a *app) patchCommand() *cobra.Command {
	var o patchOptions
	cmd := &cobra.Command{
		Use:   "patch KIND/NAME... | KIND NAME... | -f FILE  -p PATCH | --patch-file FILE|-",
		Short: "Change fields of resources by a patch",
		Long: "Change fields of resources by a patch in JSON or YAML. A merge patch (RFC 7386) looks like the\n" +
			"object: what it has is set, null removes a field, lists are replaced as a whole. A JSON patch\n" +
			"(RFC 6902) is a list of operations; when one fails, also a test, nothing is changed. A\n" +
			"metadata.resourceVersion that the patch sets must be the current one.",
		Example: "  proxctl patch app/nginx-01 -p '{\"spec\":{\"state\":\"Stopped\"}}'\n" +
			"  proxctl patch app nginx-01 -p 'spec: {resources: {memory: 1Gi}}' --dry-run=server -o yaml\n" +
			"  proxctl patch app nginx-01 --type json -p '[{\"op\":\"remove\",\"path\":\"/spec/webPort\"}]'",
		RunE: func(cmd *cobra.Command, args []string) error { return a.patch(cmd.Context(), args, o) },
	}
	o.sources.addFlags(cmd)
	o.writeFlags.addFlags(cmd, "proxctl-patch")
	f := cmd.Flags()
	f.StringVar(&o.typ, "type", "merge", "`type` of the patch: merge or json")
	f.StringVarP(&o.patch, "patch", "p", "", "the `patch`, in JSON or YAML")
	f.StringVar(&o.file, "patch-file", "", "`file` with the patch, or - for the standard input")
	f.StringVar(&o.subresource, "subresource", "", "not supported: the status is the daemon's to write")
	_ = f.MarkHidden("subresource")
	cmd.ValidArgsFunction = a.completeObjects
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"merge", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) patch(ctx context.Context, args []string, o patchOptions) error {
	typ, data, err := o.read(a)
	if err != nil {
		return err
	}
	out, err := a.writes(o.writeFlags)
	if err != nil {
		return err
	}
	conn, keys, _, err := a.chosen(ctx, args, o.selection, "patch")
	if err != nil {
		return err
	}
	var errs []error
	for _, key := range keys {
		if err := conn.patchOne(ctx, key, typ, data, o, out); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, out.end())...)
}

// patchOne patches an object. It is read before, to tell whether the patch changed it; a
// change of somebody else in between is then told as the patch's.
func (c *connection) patchOne(ctx context.Context, key resource.Key, typ client.PatchType, data []byte, o patchOptions, out *written) error {
	before, err := c.Get(ctx, key)
	if errors.Is(err, client.ErrNotFound) {
		return missing(key)
	}
	if err != nil {
		return err
	}
	after, err := c.Patch(ctx, key, typ, data, client.PatchOptions{Manager: o.manager, DryRun: o.dryRun.on(), Force: o.force})
	if err != nil {
		return err
	}
	outcome := "patched"
	if before.GetMetadata().GetResourceVersion() == after.GetMetadata().GetResourceVersion() {
		outcome = "patched (no change)"
	}
	out.add(key, after, outcome)
	return nil
}

// read returns the patch as JSON.
func (o *patchOptions) read(a *app) (client.PatchType, []byte, error) {
	typ, ok := patchTypes[o.typ]
	switch {
	case o.subresource != "":
		return "", nil, usagef("--subresource %s: only metadata and spec can be patched; the status is what controllers saw, and theirs to write", o.subresource)
	case o.typ == "strategic":
		return "", nil, usagef("--type strategic: allowed are merge, which replaces lists as a whole, and json; `proxctl apply` merges lists by their keys")
	case !ok:
		return "", nil, usagef("--type %q: allowed are merge and json", o.typ)
	case (o.patch == "") == (o.file == ""):
		return "", nil, usagef("patch needs either -p PATCH or --patch-file FILE")
	}
	source, data := "-p", []byte(o.patch)
	if o.file != "" {
		var err error
		if data, err = readFile(o.file, a.In); err != nil {
			return "", nil, err
		}
		source = sourceName(o.file)
	}
	if len(data) > resource.MaxSourceBytes {
		return "", nil, fmt.Errorf("%s has %d bytes, allowed are %d", source, len(data), resource.MaxSourceBytes)
	}
	converted, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return "", nil, fmt.Errorf("%s is neither JSON nor YAML: %w", source, err)
	}
	return typ, converted, nil
}
