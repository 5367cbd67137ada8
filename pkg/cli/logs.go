package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	defaultLogLines = 100
	maxLogLines     = 1000 // an Operation keeps no more
)

type logsOptions struct {
	service string
	lines   int
	timeout time.Duration
}

func (a *app) logsCommand() *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs appliance/NAME | app/NAME",
		Short: "Show the newest lines of the journal in an appliance's or App's guest",
		Example: "  proxctl logs appliance/proximity --service dnsmasq\n" +
			"  proxctl logs app/nginx-01 --lines 20",
		Args: atLeast(1, "appliance/NAME or app/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.logs(cmd.Context(), args, o) },
	}
	cmd.Flags().StringVar(&o.service, "service", "", "only this `service`; of an appliance: dnsmasq, caddy or nat")
	cmd.Flags().IntVar(&o.lines, "lines", defaultLogLines, "how many lines, 1 to 1000")
	cmd.Flags().DurationVar(&o.timeout, "timeout", defaultOperationTimeout, "how long to wait for them")
	cmd.ValidArgsFunction = a.completeObjects
	return cmd
}

// logs asks for the lines by an Operation: only controllers talk to guests.
func (a *app) logs(ctx context.Context, args []string, o logsOptions) error {
	if o.lines < 1 || o.lines > maxLogLines {
		return usagef("--lines %d: allowed are 1 to %d", o.lines, maxLogLines)
	}
	conn, key, err := a.target(ctx, args, "Appliance", "App")
	if err != nil {
		return err
	}
	target, err := conn.Get(ctx, key)
	if errors.Is(err, client.ErrNotFound) {
		return missing(key)
	}
	if err != nil {
		return err
	}
	created, err := conn.Create(ctx, logsOperation(target, o))
	if err != nil {
		return err
	}
	op, ok := created.(*v1alpha1.Operation)
	if !ok {
		return errors.New("the daemon answered with something that is no Operation")
	}
	return a.finish(ctx, conn, op, o.timeout, false)
}

func logsOperation(target resource.Object, o logsOptions) *v1alpha1.Operation {
	key := resource.KeyOf(target)
	arguments := map[string]string{"lines": strconv.Itoa(o.lines)}
	if o.service != "" {
		arguments["service"] = o.service
	}
	ref := &v1alpha1.ObjectReference{
		Kind: proto.String(key.Kind), Name: proto.String(key.Name), Uid: proto.String(target.GetMetadata().GetUid()),
	}
	if key.Namespace != "" {
		ref.Namespace = proto.String(key.Namespace)
	}
	return &v1alpha1.Operation{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Operation"),
		Metadata: &v1alpha1.ObjectMeta{Name: operationName("logs", key.Name), Namespace: key.EventNamespace()},
		Spec:     &v1alpha1.OperationSpec{Action: proto.String("CollectLogs"), Target: ref, Arguments: arguments},
	}
}

// maxNameBytes is a DNS label.
const maxNameBytes = 63

// operationName is <prefix>-<object>-<random>, at most a DNS label.
func operationName(prefix, object string) string {
	random := strings.ToLower(rand.Text())[:10]
	room := maxNameBytes - len(prefix) - len(random) - 2
	if len(object) > room {
		object = strings.TrimRight(object[:room], "-.")
	}
	return prefix + "-" + object + "-" + random
}
