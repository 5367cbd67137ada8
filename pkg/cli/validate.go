package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/sealed"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

func (a *app) validateCommand() *cobra.Command {
	var s sources
	cmd := &cobra.Command{
		Use:   "validate -f FILE|DIR|-",
		Short: "Check documents without a daemon",
		Long: "Check documents without a daemon: their form, their fields, and whether they fit together.\n" +
			"What depends on existing resources is checked by `proxctl apply --dry-run`.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(s.files) == 0 {
				return usagef("validate needs -f FILE, -f DIR or -f -")
			}
			docs, err := s.read(a.registry, a.In)
			if err != nil {
				return err
			}
			namespace := cmp.Or(a.flags.namespace, resource.DefaultNamespace)
			if err := a.intoNamespace(docs, namespace); err != nil {
				return err
			}
			if err := checkOffline(cmd.Context(), a.registry, docs); err != nil {
				return err
			}
			fmt.Fprintf(a.Out, "%s, no errors\n", counted(len(docs), "document"))
			return nil
		},
	}
	s.addFlags(cmd)
	return cmd
}

// checkOffline applies the documents to an empty store in memory that has the namespaces
// they name: the very checks of the daemon, but for those against objects that exist. The
// error is resource.FieldErrors.
func checkOffline(ctx context.Context, reg *resource.Registry, docs []resource.Document) error {
	st := memory.New(reg)
	defer st.Close()
	applier := apply.New(st, reg).WithKeys(seal.NewEphemeral())
	if err := applier.EnsureNamespaces(ctx); err != nil {
		return err
	}
	if err := makeNamespaces(ctx, st, reg, docs); err != nil {
		return err
	}
	loose := make([]resource.Document, len(docs))
	for i, d := range docs {
		// Which uid and revision are the current ones only the daemon knows.
		d.Object = resource.Clone(d.Object)
		d.Object.GetMetadata().Uid, d.Object.GetMetadata().ResourceVersion = "", ""
		withoutMarks(reg, d.Object)
		loose[i] = d
	}
	_, err := applier.ApplySet(ctx, loose, apply.Options{Manager: manager, DryRun: true})
	return err
}

// withoutMarks empties the sensitive values that a document has the marks of: what they stand
// for only the daemon knows.
func withoutMarks(reg *resource.Registry, obj resource.Object) {
	kind, ok := reg.Get(obj.GetKind())
	if !ok {
		return
	}
	for _, v := range kind.SensitiveValues(obj) {
		if s, err := sealed.Parse(v.Text); err == nil && s.IsMark() {
			v.Set("")
		}
	}
}

// makeNamespaces creates the namespaces that documents name; those with an illegal name
// are left to the check of the document.
func makeNamespaces(ctx context.Context, st store.Store, reg *resource.Registry, docs []resource.Document) error {
	kind, ok := reg.Get("Namespace")
	if !ok {
		return nil
	}
	_, err := st.Update(ctx, func(tx store.Tx) error {
		for _, d := range docs {
			name := d.Object.GetMetadata().GetNamespace()
			if _, err := tx.Get(resource.Key{Kind: kind.Name, Name: name}); err == nil || !resource.IsDNSLabel(name) {
				continue
			}
			ns := kind.New()
			ns.GetMetadata().Name = name
			if _, err := tx.Create(ns); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}
