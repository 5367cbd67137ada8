package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/gitops/export"
	"github.com/proximity-pve/proximity/pkg/resource"
)

type exportOptions struct {
	selection
	directory string
	secrets   bool
}

func (a *app) exportCommand() *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export [KIND NAME... | KIND/NAME... | KIND --all]",
		Short: "Write resources as manifests that a repository can have",
		Long: "Write resources as clean YAML: no status, nothing that the daemon sets, no defaults. Without\n" +
			"arguments: everything in all namespaces. What is carried out once (operations, backups), what\n" +
			"others make and what the daemon declares itself is left out. Values of Secrets cannot be read;\n" +
			"with --secrets their marks are written, which this daemon alone understands.\n\n" +
			"Applied again the output changes nothing, and exported again it is the same.",
		Example: "  proxctl export > all.yaml\n  proxctl export app --all -n default\n  proxctl export -d manifests/",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.export(cmd.Context(), args, o) },
	}
	o.selection.addFlags(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.directory, "directory", "d", "", "write a file for each resource below this `directory` instead of the standard output")
	f.BoolVar(&o.secrets, "secrets", false, "write Secrets and other resources with hidden values too, with marks in their place")
	cmd.ValidArgsFunction = a.completeObjects
	return cmd
}

func (a *app) export(ctx context.Context, args []string, o exportOptions) error {
	objs, err := a.exported(ctx, args, o)
	if err != nil {
		return err
	}
	var left []string
	first := true
	for _, obj := range objs {
		kind, ok := a.registry.Get(obj.GetKind())
		if !ok {
			continue
		}
		why := export.LeftOut(a.registry, obj)
		if why == "" && kind.HasSensitive() && !o.secrets {
			why = "its values cannot be read"
		}
		if why != "" {
			if len(args) > 0 || kind.HasSensitive() {
				left = append(left, fmt.Sprintf("%s: %s", resource.KeyOf(obj), why))
			}
			continue
		}
		text, err := resource.EncodeYAML(export.Clean(kind, obj))
		if err != nil {
			return err
		}
		if o.directory != "" {
			err = writeManifest(o.directory, resource.KeyOf(obj), text)
		} else {
			if !first {
				fmt.Fprintln(a.Out, "---")
			}
			_, err = a.Out.Write(text)
		}
		if err != nil {
			return err
		}
		first = false
	}
	for _, line := range left {
		fmt.Fprintf(a.Err, "left out %s\n", line)
	}
	return nil
}

// exported reads what is to be written, in the order of apply.
func (a *app) exported(ctx context.Context, args []string, o exportOptions) ([]resource.Object, error) {
	if len(args) > 0 || len(o.files) > 0 {
		conn, keys, _, err := a.chosen(ctx, args, o.selection, "export")
		if err != nil {
			return nil, err
		}
		var objs []resource.Object
		for _, key := range keys {
			obj, err := conn.Get(ctx, key)
			if errors.Is(err, client.ErrNotFound) {
				return nil, missing(key)
			}
			if err != nil {
				return nil, err
			}
			objs = append(objs, obj)
		}
		return objs, nil
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	var objs []resource.Object
	for _, k := range a.registry.Kinds() {
		if k.System || k.ImmutableSpec {
			continue
		}
		list, err := conn.ListAll(ctx, k.Name, client.ListOptions{Namespace: a.flags.namespace})
		if errors.Is(err, client.ErrForbidden) {
			fmt.Fprintf(a.Err, "left out %s: %v\n", k.Plural, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		objs = append(objs, list.Items...)
	}
	return objs, nil
}

// writeManifest writes one file: NAMESPACE/KIND-NAME.yaml, cluster/KIND-NAME.yaml.
func writeManifest(dir string, key resource.Key, text []byte) error {
	below := key.Namespace
	if below == "" {
		below = "cluster"
	}
	path := filepath.Join(dir, below, strings.ToLower(key.Kind)+"-"+key.Name+".yaml")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
