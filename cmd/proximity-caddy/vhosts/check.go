package vhosts

import (
	"fmt"
	"io"
	"os"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "check-vhosts",
		Usage: "<file>",
		Short: "Reads a table of virtual hosts and says what is wrong with it",
		Long: "Reads a table of virtual hosts as the app proximity_vhosts does. What is wrong with single\n" +
			"lines is printed, a line each. Fails only when the proxy would not take the table at all.",
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Args = cobra.ExactArgs(1)
			cmd.RunE = func(cmd *cobra.Command, args []string) error { return check(args[0], cmd.OutOrStdout()) }
		},
	})
}

// check reads the table in a file and prints its problems.
func check(file string, out io.Writer) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	data, err := readTable(f, info.Size())
	if err != nil {
		return err
	}
	t, _, err := parse(data, &table{})
	if err != nil {
		return err
	}
	for _, p := range t.problems {
		if _, err := fmt.Fprintln(out, p); err != nil {
			return err
		}
	}
	return nil
}
