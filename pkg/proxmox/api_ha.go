package proxmox

import (
	"context"
	"net/http"
)

// HAStatusEntry is a row of GET /cluster/ha/status/current: the quorum, the master, a
// node's local resource manager, or a service.
type HAStatusEntry struct {
	ID      string `json:"id"`
	Type    string `json:"type"` // quorum, master, lrm, service, fencing
	Node    string `json:"node"`
	Status  string `json:"status"`
	Quorate Bool   `json:"quorate"` // of quorum
	// Of a service, ct:100 for a guest. State is what is so, Request what is wanted.
	SID     string `json:"sid"`
	State   string `json:"state"`
	Request string `json:"request_state"`
	CRM     string `json:"crm_state"`
}

// HAStatus asks what high availability is at; it needs Sys.Audit on /. Without it in use
// only the quorum's row is there.
func (c *Client) HAStatus(ctx context.Context) ([]HAStatusEntry, error) {
	return fetch[[]HAStatusEntry](ctx, c, route(http.MethodGet, "/cluster/ha/status/current"))
}

// HAResource is a row of GET /cluster/ha/resources. The manager restarts a service that
// it wants started, whoever stopped it.
type HAResource struct {
	SID     string `json:"sid"`   // ct:100
	State   string `json:"state"` // started, stopped, disabled, ignored; "" is started
	Group   string `json:"group"` // until 8.x; rules since
	Comment string `json:"comment"`
}

// HAResources lists what is highly available; it needs Sys.Audit on /.
func (c *Client) HAResources(ctx context.Context) ([]HAResource, error) {
	return fetch[[]HAResource](ctx, c, route(http.MethodGet, "/cluster/ha/resources"))
}
