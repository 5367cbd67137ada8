package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/client"
)

const (
	// maxCompletions bounds the names that the shell is told.
	maxCompletions = 500
	// completionTime bounds what a key press waits for; a daemon that does not answer in it
	// has no names.
	completionTime = time.Second
)

// completing runs complete with a daemon, for completionTime at most. Nothing is completed
// without one: an error would be printed into the line that the user types.
func (a *app) completing(cmd *cobra.Command, complete func(ctx context.Context, conn *connection) []string) []string {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	conn, err := a.connect(ctx)
	if err != nil {
		return nil
	}
	return complete(ctx, conn)
}

// completeObjects completes kinds, and the names of live objects: KIND NAME... and
// KIND/NAME....
func (a *app) completeObjects(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveNoFileComp
	word, prefix, slash := strings.Cut(toComplete, "/")
	pairs := len(args) > 0 && strings.Contains(args[0], "/")
	names := a.completing(cmd, func(ctx context.Context, conn *connection) []string {
		switch {
		case slash:
			return conn.namesOf(ctx, word, word+"/", prefix, args)
		case pairs:
			directive |= cobra.ShellCompDirectiveNoSpace
			return conn.kindWords("/")
		case len(args) == 0:
			return conn.kindWords("")
		}
		return conn.namesOf(ctx, args[0], "", toComplete, args[1:])
	})
	return names, directive
}

// kindWords are the words for kinds; before a name it is the singular.
func (c *connection) kindWords(suffix string) []string {
	var words []string
	for _, k := range c.kinds.kinds {
		if suffix == "" {
			words = append(words, k.info.GetPlural())
		}
		words = append(words, k.singular()+suffix)
	}
	return words
}

// namesOf are the names of live objects that begin with prefix and are not given yet, each
// with before in front.
func (c *connection) namesOf(ctx context.Context, word, before, prefix string, given []string) []string {
	k, err := c.kinds.one(word)
	if err != nil {
		return nil
	}
	list, err := c.List(ctx, k.Name, client.ListOptions{Namespace: c.scope(k, false)})
	if err != nil {
		return nil
	}
	var names []string
	for _, obj := range list.Items {
		name := obj.GetMetadata().GetName()
		if strings.HasPrefix(name, prefix) && !slices.Contains(given, before+name) && len(names) < maxCompletions {
			names = append(names, before+name)
		}
	}
	return names
}

// completeKinds completes a kind as the first argument.
func (a *app) completeKinds(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completing(cmd, func(_ context.Context, conn *connection) []string { return conn.kindWords("") }), cobra.ShellCompDirectiveNoFileComp
}

// completeNamespaces completes --namespace.
func (a *app) completeNamespaces(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	return a.completing(cmd, func(ctx context.Context, conn *connection) []string {
		return conn.namesOf(ctx, "namespace", "", toComplete, nil)
	}), cobra.ShellCompDirectiveNoFileComp
}

// completeContexts completes --context from the configuration file.
func (a *app) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	_, contexts, err := a.contexts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return contexts.Names(), cobra.ShellCompDirectiveNoFileComp
}
