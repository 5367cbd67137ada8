package cli

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// connected is a command line that has a daemon.
func connected(t *testing.T, d *daemon) (*app, *connection) {
	t.Helper()
	a := &app{IO: IO{Getenv: func(string) string { return "" }}, registry: kinds.Registry()}
	a.flags.endpointFile = d.endpointFile()
	conn, err := a.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return a, conn
}

// While the user edits, a controller writes the status: that is no conflict. A change of
// what the user has in the editor is one.
func TestEditWhileOthersWrite(t *testing.T) {
	d := startDaemon(t)
	a, conn := connected(t, d)
	key := resource.Key{Kind: "Namespace", Name: "edited"} // the test's controller leaves these alone
	ns := &v1alpha1.Namespace{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Namespace"),
		Metadata: &v1alpha1.ObjectMeta{Name: key.Name}, Spec: &v1alpha1.NamespaceSpec{Description: proto.String("before")}}
	base, err := conn.Create(t.Context(), ns)
	if err != nil {
		t.Fatal(err)
	}
	body, err := editable(base)
	if err != nil {
		t.Fatal(err)
	}
	e := &edited{app: a, conn: conn, key: key, base: base, body: body}

	other := resource.Clone(base).(*v1alpha1.Namespace)
	other.Status = &v1alpha1.NamespaceStatus{Phase: proto.String("Active")}
	if _, err := conn.UpdateStatus(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := e.save(t.Context(), strings.Replace(body, "before", "mine", 1)); err != nil {
		t.Errorf("after a write of the status: %v", err)
	}
	got, err := conn.Get(t.Context(), key)
	if ns, ok := got.(*v1alpha1.Namespace); err != nil || !ok || ns.GetSpec().GetDescription() != "mine" || ns.GetStatus().GetPhase() != "Active" {
		t.Errorf("stored is %v, %v", got, err)
	}
	// What is stored is now another text than the one that the user was given.
	if err := e.save(t.Context(), strings.Replace(body, "before", "again", 1)); !errors.Is(err, client.ErrConflict) || !strings.Contains(err.Error(), "meanwhile") {
		t.Errorf("after a write of the spec: %v", err)
	}
	if got, err := conn.Get(t.Context(), key); err != nil || got.(*v1alpha1.Namespace).GetSpec().GetDescription() != "mine" {
		t.Errorf("the conflict stored %v, %v", got, err)
	}
}

// A daemon that takes connections and says nothing holds up a key press for about a
// second: without the bound it would be a minute and a half.
func TestCompletionOfASilentDaemon(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := startDaemon(t)
	a := &app{IO: IO{Getenv: func(string) string { return "" }}, registry: kinds.Registry()}
	cfg, _, err := client.FromEndpoint(d.endpointFile(), a.registry)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Address = l.Addr().String()
	silent, err := a.open(cfg, nil, resource.DefaultNamespace, "test")
	if err != nil {
		t.Fatal(err)
	}
	a.conn = silent
	silent.kinds = testTable(t)
	defer silent.Close()
	cmd := &cobra.Command{}
	cmd.SetContext(context.Background())
	start := time.Now()
	names, _ := a.completeObjects(cmd, []string{"apps"}, "")
	if took := time.Since(start); len(names) > 0 || took > callsWithoutBound {
		t.Errorf("%d names after %s", len(names), took)
	}
}

// callsWithoutBound is far above completionTime, and far below what a call may take.
const callsWithoutBound = time.Minute
