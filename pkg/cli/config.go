package cli

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/proximity-pve/proximity/pkg/client"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show and change the configuration file with the daemons you know",
		Args:  unknownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.configViewCommand(), a.configUseCommand(), a.configSetCommand())
	return cmd
}

func (a *app) configViewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "view",
		Short: "Show the configuration file, without tokens",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			path, c, err := a.contexts()
			if err != nil {
				return err
			}
			for i := range c.Contexts {
				if c.Contexts[i].Token != "" {
					c.Contexts[i].Token = "(not shown)"
				}
			}
			data, err := yaml.Marshal(c)
			if err != nil {
				return fmt.Errorf("encode configuration: %w", err)
			}
			fmt.Fprintf(a.Out, "# %s\n%s", path, data)
			return nil
		},
	}
}

func (a *app) configUseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "use-context NAME",
		Short: "Make a context the current one",
		Args:  exactly(1, "the name of a context"),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeConfig(func(c *client.Contexts) error {
				if _, ok := c.Find(args[0]); !ok {
					return &notFoundError{fmt.Sprintf("there is no context %q, known are: %s", args[0], orNone(c.Names()))}
				}
				c.Current = args[0]
				return nil
			}, "Current context: "+args[0])
		},
	}
}

func (a *app) configSetCommand() *cobra.Command {
	var want client.Context
	cmd := &cobra.Command{
		Use:   "set-context NAME",
		Short: "Add a context, or change what flags name of it",
		Example: "  proxctl config set-context lab --endpoint pve.example.org:8443 \\\n" +
			"      --ca ~/lab/ca.crt --token-file ~/lab/token",
		Args: exactly(1, "the name of a context"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeConfig(func(c *client.Contexts) error { return setContext(cmd, c, args[0], want) }, "Context "+args[0]+" is set")
		},
	}
	f := cmd.Flags()
	f.StringVar(&want.Endpoint, "endpoint", "", "`host:port` of the gRPC API")
	f.StringVar(&want.REST, "rest", "", "`URL` of the REST API")
	f.StringVar(&want.CA, "ca", "", "`file` of the CA that signed the daemon's certificate")
	f.StringVar(&want.TokenFile, "token-file", "", "`file` of the token")
	f.StringVar(&want.Certificate, "certificate", "", "`file` of a certificate that auth certificate made, instead of a token")
	f.StringVar(&want.Key, "key", "", "`file` of its key")
	return cmd
}

// setContext takes over what the flags say. Files become absolute: the configuration is
// used from everywhere.
func setContext(cmd *cobra.Command, c *client.Contexts, name string, want client.Context) error {
	x, ok := c.Find(name)
	if !ok {
		c.Contexts = append(c.Contexts, client.Context{Name: name})
		x = &c.Contexts[len(c.Contexts)-1]
	}
	absolute := func(path string) (string, error) {
		if path == "" {
			return "", nil
		}
		return filepath.Abs(path)
	}
	var errs []error
	set := func(flag string, to *string, value string, err error) {
		if cmd.Flags().Changed(flag) {
			*to = value
			errs = append(errs, err)
		}
	}
	ca, caErr := absolute(want.CA)
	token, tokenErr := absolute(want.TokenFile)
	set("endpoint", &x.Endpoint, want.Endpoint, nil)
	set("rest", &x.REST, want.REST, nil)
	set("ca", &x.CA, ca, caErr)
	set("token-file", &x.TokenFile, token, tokenErr)
	cert, certErr := absolute(want.Certificate)
	key, keyErr := absolute(want.Key)
	set("certificate", &x.Certificate, cert, certErr)
	set("key", &x.Key, key, keyErr)
	if cmd.Flags().Changed("token-file") {
		x.Token = ""
	}
	if cmd.Flags().Changed("namespace") {
		x.Namespace = cmd.Flag("namespace").Value.String()
	}
	if x.Endpoint == "" {
		return usagef("a context needs --endpoint host:port")
	}
	if c.Current == "" {
		c.Current = name
	}
	return errors.Join(errs...)
}

func (a *app) changeConfig(change func(*client.Contexts) error, done string) error {
	path, c, err := a.contexts()
	if err != nil {
		return err
	}
	if a.configPath() == "" {
		return errors.New("there is no home directory: name the configuration file with --config FILE")
	}
	if err := change(c); err != nil {
		return err
	}
	if err := c.Write(path); err != nil {
		return err
	}
	fmt.Fprintln(a.Out, done)
	return nil
}
