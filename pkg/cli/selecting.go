package cli

import (
	"context"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// selection is how commands that act on several objects choose them: by name, or all of
// a kind, or those with labels.
type selection struct {
	all       bool // --all
	labels    string
	everyName bool // -A
}

// choose returns the keys that the arguments name, in the order given, or what a list
// finds. byName tells which of the two.
func (c *connection) choose(ctx context.Context, args []string, s selection) (keys []resource.Key, byName bool, err error) {
	if !s.all && s.labels == "" {
		if s.everyName {
			return nil, false, usagef("-A needs --all or -l")
		}
		keys, err = c.refs(args)
		if err == nil && len(keys) == 0 {
			err = usagef("names are missing: allowed are KIND NAME..., KIND/NAME... and KIND --all")
		}
		return keys, true, err
	}
	if len(args) != 1 {
		return nil, false, usagef("--all and -l take kinds only, found %q", args[1])
	}
	kinds, err := c.kindList(args[0])
	if err != nil {
		return nil, false, err
	}
	for _, k := range kinds {
		list, err := c.List(ctx, k.Name, client.ListOptions{Namespace: c.scope(k, s.everyName), LabelSelector: s.labels})
		if err != nil {
			return nil, false, err
		}
		for _, obj := range list.Items {
			keys = append(keys, resource.KeyOf(obj))
		}
	}
	return keys, false, nil
}
