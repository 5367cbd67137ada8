package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

func (a *app) leasesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "leases [APPLIANCE...]",
		Short: "Show who has which address by DHCP",
		Example: "  proxctl leases\n" +
			"  proxctl get leases",
		RunE: func(cmd *cobra.Command, args []string) error { return a.leases(cmd.Context(), args) },
	}
}

// leases shows what appliances say in their status.
func (a *app) leases(ctx context.Context, names []string) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	all, err := conn.appliances(ctx, names)
	if err != nil {
		return err
	}
	var rows [][]string
	now := time.Now()
	for _, apl := range all {
		for _, l := range apl.GetStatus().GetLeases() {
			rows = append(rows, []string{
				l.GetAddress(), l.GetMac(), cellOr(term.Clean(l.GetHostname())), cellOr(l.GetApp()), ends(l.GetExpires(), now), apl.GetMetadata().GetName(),
			})
		}
		if more := int(apl.GetStatus().GetLeaseCount()) - len(apl.GetStatus().GetLeases()); more > 0 {
			fmt.Fprintf(a.Err, "Appliance %s has %d more.\n", apl.GetMetadata().GetName(), more)
		}
	}
	if len(rows) == 0 {
		fmt.Fprintln(a.Err, "No leases found.")
		return nil
	}
	return writeTable(a.Out, []string{"ADDRESS", "MAC", "HOSTNAME", "APP", "ENDS", "APPLIANCE"}, rows)
}

// ends says when a lease ends unless it is renewed.
func ends(at string, now time.Time) string {
	if at == "" {
		return "never"
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return term.Clean(at)
	}
	if d := t.Sub(now); d > 0 {
		return "in " + d.Truncate(time.Minute).String()[:max(2, len(d.Truncate(time.Minute).String())-2)]
	}
	return "over"
}

// appliances returns those of the names, or all.
func (c *connection) appliances(ctx context.Context, names []string) (found []*v1alpha1.Appliance, err error) {
	var objs []resource.Object
	if len(names) == 0 {
		list, err := c.List(ctx, "Appliance", client.ListOptions{})
		if err != nil {
			return nil, err
		}
		objs = list.Items
	}
	for _, name := range names {
		key := resource.Key{Kind: "Appliance", Name: strings.TrimPrefix(name, "appliance/")}
		obj, err := c.Get(ctx, key)
		if errors.Is(err, client.ErrNotFound) {
			return nil, missing(key)
		}
		if err != nil {
			return nil, err
		}
		objs = append(objs, obj)
	}
	for _, obj := range objs {
		if apl, ok := obj.(*v1alpha1.Appliance); ok {
			found = append(found, apl)
		}
	}
	return found, nil
}

func (a *app) caCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ca [APPLIANCE]",
		Short: "Print the root certificate of an appliance's own authority",
		Long: "Print, in PEM, the root certificate that Vhosts with the TLS mode internal come from. Who\n" +
			"trusts it gets no warning from them. It is no secret; its key never leaves the appliance.",
		Example: "  proxctl ca > proximity-root.crt\n" +
			"  sudo cp proximity-root.crt /usr/local/share/ca-certificates/ && sudo update-ca-certificates",
		RunE: func(cmd *cobra.Command, args []string) error { return a.ca(cmd.Context(), args) },
	}
}

func (a *app) ca(ctx context.Context, names []string) error {
	if len(names) > 1 {
		return usagef("proxctl ca takes the name of one appliance, found %q", names)
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	all, err := conn.appliances(ctx, names)
	if err != nil {
		return err
	}
	if len(all) > 1 {
		return usagef("there are %d appliances: name one", len(all))
	}
	if len(all) == 0 {
		return errors.New("there is no appliance")
	}
	root := all[0].GetStatus().GetCaCertificate()
	if root == "" {
		return fmt.Errorf("appliance %s has no authority yet: its proxy makes it with the first Vhost that needs it", all[0].GetMetadata().GetName())
	}
	fmt.Fprint(a.Out, strings.TrimRight(root, "\n")+"\n")
	return nil
}
