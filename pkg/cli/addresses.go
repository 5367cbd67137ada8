package cli

import (
	"context"
	"fmt"
	"net"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
)

// maxAddresses bounds the host names that apply ends with.
const maxAddresses = 20

// addresses prints where to go: the API, and each host name of the applied Vhosts. With an
// embedded node names lead nowhere outside of it; there its forwarders on the loopback
// interface are the way in, and curl is told so.
func (a *app) addresses(ctx context.Context, conn *connection, results []client.ApplyResult) error {
	var lines []string
	for _, r := range results {
		if r.Key.Kind != "Vhost" || len(lines) > maxAddresses {
			continue
		}
		obj, err := conn.Get(ctx, r.Key) // its status has changed since
		if err != nil {
			return err
		}
		vhost, ok := obj.(*v1alpha1.Vhost)
		if !ok {
			return fmt.Errorf("%s is a %T", r.Key, obj)
		}
		lines = append(lines, vhostAddresses(vhost, conn.endpoint)...)
	}
	fmt.Fprintln(a.Out, "\nAddresses:")
	if conn.endpoint != nil && conn.endpoint.REST != "" {
		fmt.Fprintf(a.Out, "  API  %s\n", conn.endpoint.REST)
	} else {
		fmt.Fprintf(a.Out, "  API  %s (gRPC)\n", conn.Address())
	}
	for i, line := range lines {
		if i == maxAddresses {
			fmt.Fprintln(a.Out, "  and more: see `proxctl get vhosts -A`")
			break
		}
		fmt.Fprintln(a.Out, "  "+term.Clean(line))
	}
	return nil
}

// vhostAddresses returns a line for each way to each host name.
func vhostAddresses(v *v1alpha1.Vhost, e *client.Endpoint) []string {
	if e == nil || e.Forward == "" {
		return v.GetStatus().GetUrls()
	}
	var lines []string
	secure := v.GetSpec().GetTls().GetMode() != "off"
	for _, host := range v.GetSpec().GetHosts() {
		if !secure || !v.GetSpec().GetTls().GetRedirect() {
			lines = append(lines, fmt.Sprintf("curl -H 'Host: %s' http://%s/", host, e.Forward))
		}
		ip, port, err := net.SplitHostPort(e.ForwardTLS)
		if !secure || err != nil {
			continue
		}
		// -k: the certificate is of the proxy's own authority, which nobody knows outside.
		lines = append(lines, fmt.Sprintf("curl -k --resolve %s:%s:%s https://%s:%s/", host, port, ip, host, port))
	}
	return lines
}
