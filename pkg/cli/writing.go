package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// writeFlags are the flags that all commands have that write.
type writeFlags struct {
	dryRun  dryRun
	output  string
	manager string
	force   bool
}

// addFlags adds them; manager is who owns what the command writes when the user names
// nobody, "" for commands that write no fields.
func (o *writeFlags) addFlags(cmd *cobra.Command, manager string) {
	f := cmd.Flags()
	f.Var(&o.dryRun, "dry-run", "`where` to check everything and say what would be done, and change nothing: server, or none")
	f.Lookup("dry-run").NoOptDefVal = string(dryRunServer)
	_ = cmd.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]string{string(dryRunServer), string(dryRunNone)}, cobra.ShellCompDirectiveNoFileComp))
	if manager == "" {
		f.StringVarP(&o.output, "output", "o", "", "`format`: name")
	} else {
		f.StringVarP(&o.output, "output", "o", "", "`format` of what was written: name, yaml or json")
		f.StringVar(&o.manager, "field-manager", manager, "`name` of who owns the fields that are set")
	}
	f.BoolVar(&o.force, "force", false, forceUsage)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"name", "yaml", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// forceUsage is what --force does for one object.
const forceUsage = "change what a Sync keeps as its repository says, too; it lasts until that is applied again"

// options are those of a write of one object.
func (o *writeFlags) options() []client.WriteOption {
	return []client.WriteOption{client.DryRunIf(o.dryRun.on()), client.ManagedBy(o.manager), client.ForceIf(o.force)}
}

// dryRun is the value of --dry-run. Checking is the daemon's alone: it knows the other
// objects, so a check without it would say less than it seems to.
type dryRun string

const (
	dryRunNone   dryRun = "none"
	dryRunServer dryRun = "server"
)

func (d *dryRun) on() bool { return *d == dryRunServer }

func (d *dryRun) String() string {
	if *d == "" {
		return string(dryRunNone)
	}
	return string(*d)
}

func (d *dryRun) Type() string { return "string" }

func (d *dryRun) Set(text string) error {
	switch text {
	case "server", "true":
		*d = dryRunServer
	case "none", "false":
		*d = dryRunNone
	case "client":
		return fmt.Errorf("the daemon does the checks, so allowed are server and none; `proxctl validate` checks documents without a daemon")
	default:
		return fmt.Errorf("allowed are server and none")
	}
	return nil
}

// written tells the user what became of objects, in the form that was asked for: a line
// for each as soon as it is known, or all of them as YAML or JSON at the end.
type written struct {
	app   *app
	flags writeFlags
	out   *printer
	objs  []resource.Object
}

// writes checks -o before anything is written.
func (a *app) writes(o writeFlags) (*written, error) {
	switch o.output {
	case "", formatName, formatYAML, formatJSON:
	default:
		return nil, usagef("-o %q: allowed are name, yaml and json", o.output)
	}
	out, err := newPrinter(a.Out, getOptions{output: o.output})
	return &written{app: a, flags: o, out: out}, err
}

// add tells of one object that was created, configured, patched. obj is only needed for YAML and JSON.
func (w *written) add(key resource.Key, obj resource.Object, outcome string) {
	switch w.flags.output {
	case formatName:
		fmt.Fprintln(w.app.Out, key.Short())
	case formatYAML, formatJSON:
		if obj != nil {
			w.objs = append(w.objs, obj)
		}
	default:
		note := ""
		if w.flags.dryRun.on() {
			note = " (dry run)"
		}
		fmt.Fprintf(w.app.Out, "%s %s%s\n", key.Short(), outcome, note)
	}
}

// end writes what was collected.
func (w *written) end() error {
	if len(w.objs) == 0 {
		return nil
	}
	return w.out.objects(nil, w.objs, len(w.objs) == 1, time.Now())
}
