package cli

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

type createOptions struct {
	sources
	writeFlags
}

func (a *app) createCommand() *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use:   "create -f FILE|DIR|- | KIND NAME",
		Short: "Create resources from documents; what exists already is an error",
		Long: "Create resources from documents, one by one in the order in which apply creates them.\n" +
			"What exists already is an error and stays as it is; the others are created. (apply\n" +
			"creates or changes all or none.) KIND NAME creates one that has a name and nothing else,\n" +
			"which is enough for kinds that need nothing else, such as a Namespace; for a Secret with its\n" +
			"values see create secret --help.",
		Example: "  proxctl create -f app.yaml\n  proxctl create namespace shop",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.create(cmd.Context(), args, o) },
	}
	o.sources.addFlags(cmd)
	o.writeFlags.addFlags(cmd, "proxctl-create")
	cmd.ValidArgsFunction = a.completeKinds
	cmd.AddCommand(a.createSecretCommand(), a.createUserCommand(), a.createTokenCommand())
	return cmd
}

func (a *app) create(ctx context.Context, args []string, o createOptions) error {
	if (len(o.files) == 0) == (len(args) == 0) {
		return usagef("create needs either -f FILE, -f DIR or -f -, or KIND NAME")
	}
	out, err := a.writes(o.writeFlags)
	if err != nil {
		return err
	}
	docs, conn, err := a.toCreate(ctx, args, o)
	if err != nil {
		return err
	}
	slices.SortStableFunc(docs, func(x, y resource.Document) int {
		return cmp.Compare(conn.order(resource.KeyOf(x.Object)), conn.order(resource.KeyOf(y.Object)))
	})
	var errs []error
	for _, d := range docs {
		made, err := conn.Create(ctx, d.Object, o.options()...)
		if err != nil && ctx.Err() != nil {
			return errors.Join(append(errs, err)...)
		}
		if err != nil {
			errs = append(errs, placed(err, d))
			continue
		}
		out.add(resource.KeyOf(made), made, "created")
	}
	return errors.Join(append(errs, out.end())...)
}

// toCreate decodes the documents before the daemon is asked anything.
func (a *app) toCreate(ctx context.Context, args []string, o createOptions) (docs []resource.Document, conn *connection, err error) {
	if len(o.files) > 0 {
		if docs, err = o.read(a.registry, a.In); err != nil {
			return nil, nil, err
		}
	}
	if conn, err = a.connect(ctx); err != nil {
		return nil, nil, err
	}
	if len(o.files) > 0 {
		return docs, conn, a.intoNamespace(docs, conn.namespace)
	}
	keys, err := conn.refs(args)
	if err != nil {
		return nil, nil, err
	}
	if len(keys) != 1 {
		return nil, nil, usagef("create takes KIND NAME, found %d names", len(keys))
	}
	obj := conn.kinds.byName(keys[0].Kind).New()
	obj.GetMetadata().Name, obj.GetMetadata().Namespace = keys[0].Name, keys[0].Namespace
	return []resource.Document{{Object: obj}}, conn, nil
}

// placed adds the lines of the document to the wrong fields that the daemon found: it saw
// the object only.
func placed(err error, d resource.Document) error {
	var answer *client.Error
	if !errors.As(err, &answer) || len(answer.Causes) == 0 {
		return err
	}
	with := *answer
	with.Causes = slices.Clone(answer.Causes)
	for i, c := range with.Causes {
		with.Causes[i].Source, with.Causes[i].Line = d.Source, d.Locate(c.Field)
	}
	return &with
}
