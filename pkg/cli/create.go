package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

func (a *app) createCommand() *cobra.Command {
	var s sources
	cmd := &cobra.Command{
		Use:   "create -f FILE|DIR|-",
		Short: "Create resources from documents; what exists already is an error",
		Long: "Create resources from documents, one by one in the order in which apply creates them.\n" +
			"What exists already is an error and stays as it is; the others are created. (apply\n" +
			"creates or changes all or none.)",
		Example: "  proxctl create -f app.yaml",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.create(cmd.Context(), s) },
	}
	s.addFlags(cmd)
	return cmd
}

func (a *app) create(ctx context.Context, s sources) error {
	if len(s.files) == 0 {
		return usagef("create needs -f FILE, -f DIR or -f -")
	}
	docs, err := s.read(a.registry, a.In)
	if err != nil {
		return err
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	if err := a.intoNamespace(docs, conn.namespace); err != nil {
		return err
	}
	slices.SortStableFunc(docs, func(x, y resource.Document) int {
		return cmp.Compare(conn.order(resource.KeyOf(x.Object)), conn.order(resource.KeyOf(y.Object)))
	})
	var errs []error
	for _, d := range docs {
		_, err := conn.Create(ctx, d.Object)
		if err != nil && ctx.Err() != nil {
			return errors.Join(append(errs, err)...)
		}
		if err != nil {
			errs = append(errs, placed(err, d))
			continue
		}
		fmt.Fprintf(a.Out, "%s created\n", resource.KeyOf(d.Object).Short())
	}
	return errors.Join(errs...)
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
