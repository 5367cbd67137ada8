// Package controllers is the registration list: one line per kind that has a controller.
//
// A controller imports the seams, the runtime and the API; never the store, the server or
// another controller. What several need of each other's findings is on the live board.
package controllers

import (
	"log/slog"
	"time"

	"github.com/proximity-pve/proximity/controllers/app"
	"github.com/proximity-pve/proximity/controllers/appliance"
	"github.com/proximity-pve/proximity/controllers/bridge"
	clustercontroller "github.com/proximity-pve/proximity/controllers/cluster"
	"github.com/proximity-pve/proximity/controllers/internal/bulk"
	"github.com/proximity-pve/proximity/controllers/internal/credentials"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/controllers/namespace"
	"github.com/proximity-pve/proximity/controllers/operation"
	"github.com/proximity-pve/proximity/controllers/vhost"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
)

// Deps is what all controllers together need.
type Deps struct {
	Clusters *cluster.Set
	// Secrets opens what specs refer to.
	Secrets *secretref.Resolver
	// Dial and Configured are how connections are made; see the controller of kind Cluster.
	Dial       func(name string, s cluster.Settings) (*cluster.Connection, error)
	Configured func(name string) (cluster.Settings, bool)
	Log        *slog.Logger
	// Probe is the period after which the outside is looked at again; 0: each kind's own.
	Probe time.Duration
}

// All makes the controllers of every kind.
func All(d Deps) []*runtime.Controller {
	opened := credentials.New(d.Secrets)
	board, guests := live.NewBoard(), bulk.New(d.Clusters, d.Log, d.Probe)
	return []*runtime.Controller{
		namespace.New(),
		clustercontroller.New(clustercontroller.Deps{Clusters: d.Clusters, Dial: d.Dial, Configured: d.Configured, Secrets: d.Secrets}),
		bridge.New(bridge.Deps{Clusters: d.Clusters, Log: d.Log, Probe: d.Probe}),
		appliance.New(appliance.Deps{Clusters: d.Clusters, Board: board, Guests: guests, Credentials: opened, Log: d.Log, Probe: d.Probe}),
		app.New(app.Deps{Clusters: d.Clusters, Board: board, Guests: guests, Secrets: d.Secrets, Log: d.Log, Probe: d.Probe}),
		vhost.New(vhost.Deps{Clusters: d.Clusters, Board: board, Credentials: opened, Log: d.Log, Probe: d.Probe}),
		operation.New(operation.Deps{Clusters: d.Clusters, Board: board, Log: d.Log}),
	}
}
