package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
)

// Statuses of checks.
const (
	checkPass = "Pass"
	checkWarn = "Warn"
	checkFail = "Fail"
)

func (a *app) doctorCommand() *cobra.Command {
	var timeout time.Duration
	var output string
	cmd := &cobra.Command{
		Use:   "doctor [CLUSTER]",
		Short: "Examine the connection to Proxmox, with the command that puts right what is wrong",
		Long: "Examine the connection to Proxmox: certificate, credentials, privileges, clocks, storages, templates,\n" +
			"VMIDs, networks and the way into guests. The daemon looks and changes nothing. Below what is wrong\n" +
			"stand commands for a root shell on a node; lines with # are for you. Exit code 1 when a check fails.",
		Example:           "  proxctl doctor\n  proxctl doctor office -o json",
		Args:              oneCluster,
		ValidArgsFunction: a.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "" && output != "json" && output != "yaml" {
				return usagef("-o %q: allowed is json or yaml", output)
			}
			return a.doctor(cmd.Context(), clusterOf(args), output, timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", defaultOperationTimeout, "how long to wait for the end")
	cmd.Flags().StringVarP(&output, "output", "o", "", "print the checks as json or yaml")
	return cmd
}

// doctor has the daemon examine a cluster and prints what it found.
func (a *app) doctor(ctx context.Context, name, output string, timeout time.Duration) error {
	if err := positive("timeout", timeout); err != nil {
		return err
	}
	conn, op, err := a.operateOn(ctx, name, "Examine", nil)
	if err != nil {
		return err
	}
	if op, err = a.awaitOperation(ctx, conn, op, timeout); err != nil {
		return err
	}
	st := op.GetStatus()
	if st.GetPhase() == phaseFailed {
		return fmt.Errorf("the examination failed: %s", st.GetMessage())
	}
	if err := a.printChecks(st.GetChecks(), output); err != nil {
		return err
	}
	failed := 0
	for _, c := range st.GetChecks() {
		if c.GetStatus() == checkFail {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%s of Cluster %s failed", counted(failed, "check"), name)
	}
	return nil
}

// shownCheck is a check as -o prints it.
type shownCheck struct {
	Name    string   `json:"name"`
	Status  string   `json:"status"`
	Message string   `json:"message"`
	Fix     []string `json:"fix,omitempty"`
}

func (a *app) printChecks(checks []*v1alpha1.Check, output string) error {
	shown := make([]shownCheck, len(checks))
	for i, c := range checks {
		shown[i] = shownCheck{c.GetName(), c.GetStatus(), c.GetMessage(), c.GetFix()}
	}
	switch output {
	case "json":
		enc := json.NewEncoder(a.Out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(shown)
	case "yaml":
		data, err := yaml.Marshal(shown)
		if err == nil {
			_, err = a.Out.Write(data)
		}
		return err
	}
	colours := map[string]term.Colour{checkPass: term.Green, checkWarn: term.Yellow, checkFail: term.Red}
	for _, c := range shown {
		colour, known := colours[c.Status]
		if !known {
			colour = term.Faint
		}
		fmt.Fprintf(a.Out, "%s %-14s %s\n", a.out.Paint(colour, fmt.Sprintf("%-4s", strings.ToUpper(c.Status))), c.Name, term.Clean(c.Message))
		for _, line := range c.Fix {
			fmt.Fprintf(a.Out, "       %s\n", term.Clean(line))
		}
	}
	return nil
}
