package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// IO is what a command reads and writes.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	// Stopped works on the files of a stopped daemon. Nil: this program does not.
	Stopped Stopped
}

// app is one run of the command line.
type app struct {
	IO
	registry *resource.Registry
	out, err *term.Terminal
	flags    globalFlags
	conn     *connection // see connect
	// anonymous: a login is being made, none is used.
	anonymous bool
}

type globalFlags struct {
	endpointFile string
	context      string
	config       string
	namespace    string
}

// Main runs the command that args (without the program's name) say and returns its exit
// code. Its context's end interrupts the command.
func Main(ctx context.Context, std IO, args []string) int {
	return Run(ctx, std, kinds.Registry(), args)
}

// Run is Main with other kinds than the platform's own.
func Run(ctx context.Context, std IO, reg *resource.Registry, args []string) int {
	if std.Stopped == nil {
		std.Stopped = noStopped{}
	}
	a := &app{IO: std, registry: reg, out: term.Of(std.Out, std.Getenv), err: term.Of(std.Err, std.Getenv)}
	// The command's context ends with a cause that says why.
	parent := ctx
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	defer cancel(nil)
	defer context.AfterFunc(parent, func() { cancel(errInterrupted) })()
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if a.conn != nil {
		_ = a.conn.Close()
	}
	if err == nil {
		return ExitDone
	}
	if !errors.As(err, new(changesError)) {
		report(a.Err, a.err, err)
	}
	return exitCode(err)
}

const (
	groupResources = "resources"
	groupDaemon    = "daemon"
	groupGit       = "git"
	groupAccess    = "access"
	groupOther     = "other"
)

// root builds the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "proxctl",
		Short: "proxctl declares, shows and deletes the resources of Proximity",
		Long: "proxctl declares, shows and deletes the resources of Proximity.\n\n" +
			"It finds the daemon by --endpoint-file, --context, PROXIMITY_ENDPOINT_FILE, the current\n" +
			"context of ~/.config/proximity/config.yaml or ./.proximity/endpoint.json, in this order.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 not ready in time.\n" +
			"diff, and plan with --detailed-exitcode: 1 there are changes, 6 failed.",
		SilenceErrors: true, SilenceUsage: true, SuggestionsMinimumDistance: 2,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err.Error()} })
	f := root.PersistentFlags()
	f.StringVar(&a.flags.endpointFile, "endpoint-file", "", "the `file` endpoint.json that the daemon writes into its data directory")
	f.StringVar(&a.flags.context, "context", "", "`name` of a context of the configuration file")
	f.StringVar(&a.flags.config, "config", "", "configuration `file` (default ~/.config/proximity/config.yaml)")
	f.StringVarP(&a.flags.namespace, "namespace", "n", "", "`namespace` of namespaced resources (default: default)")
	// The flags are there: registering cannot fail.
	_ = root.RegisterFlagCompletionFunc("namespace", a.completeNamespaces)
	_ = root.RegisterFlagCompletionFunc("context", a.completeContexts)
	root.AddGroup(
		&cobra.Group{ID: groupResources, Title: "Resources:"},
		&cobra.Group{ID: groupDaemon, Title: "The infrastructure:"},
		&cobra.Group{ID: groupAccess, Title: "Who may do what:"},
		&cobra.Group{ID: groupGit, Title: "Repositories:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	a.add(root, groupResources, a.applyCommand, a.diffCommand, a.planCommand, a.createCommand, a.getCommand, a.describeCommand, a.editCommand,
		a.patchCommand, a.labelCommand, a.annotateCommand, a.deleteCommand,
		a.waitCommand, a.eventsCommand, a.logsCommand, a.validateCommand, a.apiResourcesCommand, a.explainCommand)
	a.add(root, groupDaemon, a.doctorCommand, a.topCommand, a.adoptCommand, a.restartCommand, a.testNATCommand, a.leasesCommand, a.caCommand, a.adminCommand)
	a.add(root, groupAccess, a.loginCommand, a.logoutCommand, a.whoamiCommand, a.passwdCommand, a.authCommand, a.trailCommand)
	a.add(root, groupGit, a.bootstrapCommand, a.reconcileCommand, a.rollbackCommand, a.exportCommand)
	a.add(root, groupOther, a.configCommand, a.versionCommand)
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	return root
}

func (a *app) add(root *cobra.Command, group string, makers ...func() *cobra.Command) {
	for _, m := range makers {
		cmd := m()
		cmd.GroupID = group
		root.AddCommand(cmd)
	}
}

func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("there is no command %q", strings.TrimPrefix(cmd.CommandPath()+" "+args[0], "proxctl "))
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		text += "; did you mean " + strings.Join(similar, " or ") + "?"
	}
	return &usageError{text}
}

// noArgs, atLeast and so on are cobra's checks as usage errors.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, found %q", cmd.CommandPath(), args[0])
	}
	return nil
}

func atLeast(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usagef("%s needs %s", cmd.CommandPath(), what)
		}
		return nil
	}
}

// exactly checks the number of arguments.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s needs %s, found %s", cmd.CommandPath(), what, counted(len(args), "argument"))
		}
		return nil
	}
}

// positive checks a time limit given by the user.
func positive(flag string, d time.Duration) error {
	if d <= 0 {
		return usagef("--%s %s: allowed is a time above 0, for example 5m", flag, d)
	}
	return nil
}
