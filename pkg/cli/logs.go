package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	defaultLogLines = 100
	maxLogLines     = 1000 // an Operation keeps no more
)

type logsOptions struct {
	service, priority, contains string
	lines                       int
	timeout                     time.Duration
	follow                      bool
}

func (a *app) logsCommand() *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs appliance/NAME | app/NAME",
		Short: "Show the newest lines of the journal in an appliance's or App's guest",
		Example: "  proxctl logs appliance/proximity --service dnsmasq\n" +
			"  proxctl logs appliance/proximity --service access --follow\n" +
			"  proxctl logs app/nginx-01 --lines 20 --priority warning",
		Args: atLeast(1, "appliance/NAME or app/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.logs(cmd.Context(), args, o) },
	}
	cmd.Flags().StringVar(&o.service, "service", "", "only this `service`; of an appliance: dnsmasq, dnsmasq-wan, caddy, nat, access or errors (of the proxy), kernel, manager (of services)")
	cmd.Flags().StringVar(&o.priority, "priority", "", "only lines of this `priority` or above: err, warning, notice, info, ...")
	cmd.Flags().StringVar(&o.contains, "contains", "", "only lines with this `text`")
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with lines as they come, until interrupted")
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
	if o.follow {
		return a.followLogs(ctx, conn, target, o)
	}
	op, err := askForLogs(ctx, conn, target, o, "")
	if err != nil {
		return err
	}
	return a.finish(ctx, conn, op, o.timeout, false)
}

func askForLogs(ctx context.Context, conn *connection, target resource.Object, o logsOptions, after string) (*v1alpha1.Operation, error) {
	created, err := conn.Create(ctx, logsOperation(target, o, after))
	if err != nil {
		return nil, err
	}
	op, ok := created.(*v1alpha1.Operation)
	if !ok {
		return nil, errors.New("the daemon answered with something that is no Operation")
	}
	return op, nil
}

// followEvery is the pause between questions for new lines.
const followEvery = 2 * time.Second

// followLogs asks again and again for what came after what it has shown. Each question is an
// Operation; it is deleted when it was answered, so that they do not pile up.
func (a *app) followLogs(ctx context.Context, conn *connection, target resource.Object, o logsOptions) error {
	if err := positive("timeout", o.timeout); err != nil {
		return err
	}
	cursor := ""
	for {
		op, err := askForLogs(ctx, conn, target, o, cursor)
		if err == nil {
			err = a.showLogs(ctx, conn, op, o, &cursor)
		}
		if errors.Is(err, errInterrupted) || errors.Is(context.Cause(ctx), errInterrupted) {
			return nil
		}
		if err != nil {
			return err
		}
		o.lines = maxLogLines // all that came since
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

func (a *app) showLogs(ctx context.Context, conn *connection, op *v1alpha1.Operation, o logsOptions, cursor *string) error {
	asked := op
	defer func() {
		// It may go on without being waited for; then it expires by itself.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), followEvery)
		defer cancel()
		_, _ = conn.Delete(ctx, resource.KeyOf(asked), asked.GetMetadata().GetUid())
	}()
	op, err := a.awaitOperation(ctx, conn, op, o.timeout)
	if err != nil {
		return err
	}
	for _, line := range op.GetStatus().GetLog() {
		fmt.Fprintln(a.Out, term.CleanLog(line))
	}
	if op.GetStatus().GetPhase() == phaseFailed {
		return fmt.Errorf("operation %s failed: %s", op.GetMetadata().GetName(), op.GetStatus().GetMessage())
	}
	if next := op.GetStatus().GetResult()["cursor"]; next != "" {
		*cursor = next
	}
	if *cursor == "" && len(op.GetStatus().GetLog()) > 0 {
		return errors.New("the journal of this guest does not tell where to go on: ask without --follow")
	}
	return nil
}

func logsOperation(target resource.Object, o logsOptions, after string) *v1alpha1.Operation {
	key := resource.KeyOf(target)
	arguments := map[string]string{"lines": strconv.Itoa(o.lines)}
	for name, value := range map[string]string{"service": o.service, "priority": o.priority, "contains": o.contains, "after": after} {
		if value != "" {
			arguments[name] = value
		}
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
