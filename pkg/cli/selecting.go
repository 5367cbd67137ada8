package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// selection is how commands that act on several objects choose them: those that documents
// name, by name, all of a kind, or those with labels or fields.
type selection struct {
	sources
	all       bool // --all
	labels    string
	fields    string
	everyName bool // -A
}

func (s *selection) addFlags(cmd *cobra.Command) {
	s.sources.addFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&s.all, "all", false, "all resources of the kind in the namespace")
	f.StringVarP(&s.labels, "selector", "l", "", "those with these labels")
	f.StringVar(&s.fields, "field-selector", "", "those with these fields, for example metadata.name!=web")
	f.BoolVarP(&s.everyName, "all-namespaces", "A", false, "with --all, -l or --field-selector: in all namespaces")
}

// listing tells whether objects are chosen by a list.
func (s *selection) listing() bool { return s.all || s.labels != "" || s.fields != "" }

// check refuses what contradicts itself before a daemon is asked.
func (s *selection) check(args []string, command string) error {
	switch {
	case len(s.files) > 0 && (len(args) > 0 || s.listing() || s.everyName):
		return usagef("%s needs either -f or resources, not both", command)
	case len(s.files) == 0 && len(args) == 0:
		return usagef("%s needs either -f or resources: KIND NAME..., KIND/NAME..., KIND --all", command)
	}
	return nil
}

// chosen connects and returns the keys that documents or arguments name, in the order
// given, or what a list finds. byName tells which of the two. Documents are decoded before
// the daemon is asked anything.
func (a *app) chosen(ctx context.Context, args []string, s selection, command string) (conn *connection, keys []resource.Key, byName bool, err error) {
	if err := s.check(args, command); err != nil {
		return nil, nil, false, err
	}
	var docs []resource.Document
	if len(s.files) > 0 {
		if docs, err = s.read(a.registry, a.In); err != nil {
			return nil, nil, false, err
		}
	}
	if conn, err = a.connect(ctx); err != nil {
		return nil, nil, false, err
	}
	if len(s.files) == 0 {
		keys, byName, err = conn.choose(ctx, args, s)
		return conn, keys, byName, err
	}
	if err := a.intoNamespace(docs, conn.namespace); err != nil {
		return nil, nil, false, err
	}
	for _, d := range docs {
		keys = append(keys, resource.KeyOf(d.Object))
	}
	return conn, unique(keys), true, nil
}

// choose returns the keys that the arguments name, in the order given, or what a list
// finds. byName tells which of the two.
func (c *connection) choose(ctx context.Context, args []string, s selection) (keys []resource.Key, byName bool, err error) {
	if !s.listing() {
		if s.everyName {
			return nil, false, usagef("-A needs --all, -l or --field-selector")
		}
		keys, err = c.refs(args)
		if err == nil && len(keys) == 0 {
			err = usagef("names are missing: allowed are KIND NAME..., KIND/NAME... and KIND --all")
		}
		return keys, true, err
	}
	if len(args) != 1 {
		return nil, false, usagef("--all, -l and --field-selector take kinds only, found %q", args)
	}
	kinds, err := c.kindList(args[0])
	if err != nil {
		return nil, false, err
	}
	for _, k := range kinds {
		list, err := c.ListAll(ctx, k.Name, client.ListOptions{Namespace: c.scope(k, s.everyName), LabelSelector: s.labels, FieldSelector: s.fields, Limit: defaultChunk})
		if err != nil {
			return nil, false, err
		}
		for _, obj := range list.Items {
			keys = append(keys, resource.KeyOf(obj))
		}
	}
	return keys, false, nil
}
