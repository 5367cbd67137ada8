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
	"github.com/proximity-pve/proximity/controllers/gitrepository"
	"github.com/proximity-pve/proximity/controllers/internal/bulk"
	"github.com/proximity-pve/proximity/controllers/internal/credentials"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/controllers/internal/usage"
	"github.com/proximity-pve/proximity/controllers/namespace"
	"github.com/proximity-pve/proximity/controllers/operation"
	"github.com/proximity-pve/proximity/controllers/sync"
	"github.com/proximity-pve/proximity/controllers/vhost"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/gitops"
	"github.com/proximity-pve/proximity/pkg/gitops/git"
	"github.com/proximity-pve/proximity/pkg/gitops/source"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
)

// Deps is what all controllers together need.
type Deps struct {
	Clusters *cluster.Set
	// Secrets opens what specs refer to.
	Secrets *secretref.Resolver
	// GitOps is what follows repositories; without an Engine nothing does.
	GitOps GitOps
	// Dial and Configured are how connections are made; see the controller of kind Cluster.
	Dial       func(name string, s cluster.Settings) (*cluster.Connection, error)
	Configured func(name string) (cluster.Settings, bool)
	// Kept is where copies of appliances' state are; nil: there are none.
	Kept appliance.Keeper
	// Patience is how soon the guest of an appliance is booted, or made anew.
	Patience appliance.Patience
	Log      *slog.Logger
	// AppWorkers is how many Apps are reconciled at the same time at most; 0: the default. One
	// that waits for a task of its guest has a worker.
	AppWorkers int
	// Probe is the period after which the outside is looked at again; 0: each kind's own.
	Probe time.Duration
}

// GitOps is what the controllers of GitRepository and Sync need.
type GitOps struct {
	Cache    *git.Cache
	Engine   gitops.Engine
	Registry *resource.Registry
	// Pokes are repositories to look at now; nil: none.
	Pokes <-chan resource.Key
}

// DefaultAppWorkers is what Deps.AppWorkers is when it is not set.
const DefaultAppWorkers = app.DefaultWorkers

// Usage answers what is used, from what the controllers and it have seen.
type Usage = usage.Desk

// All makes the controllers of every kind.
func All(d Deps) []*runtime.Controller {
	all, _ := WithUsage(d)
	return all
}

// WithUsage makes the controllers, and what tells of usage from what they see.
func WithUsage(d Deps) ([]*runtime.Controller, *Usage) {
	opened := credentials.New(d.Secrets)
	board, guests := live.NewBoard(), bulk.New(d.Clusters, d.Log, d.Probe)
	sources := source.Sources{Cache: d.GitOps.Cache, Secrets: d.Secrets}
	syncs, previewer := sync.New(sync.Deps{Sources: sources, Engine: d.GitOps.Engine, Registry: d.GitOps.Registry, Log: d.Log})
	used := usage.New(d.Clusters, guests, d.Log)
	all := []*runtime.Controller{
		namespace.New(),
		clustercontroller.New(clustercontroller.Deps{Clusters: d.Clusters, Dial: d.Dial, Configured: d.Configured, Secrets: d.Secrets}),
		bridge.New(bridge.Deps{Clusters: d.Clusters, Log: d.Log, Probe: d.Probe}),
		appliance.New(appliance.Deps{Clusters: d.Clusters, Board: board, Guests: guests, Credentials: opened, Keeper: d.Kept, Patience: d.Patience, Log: d.Log, Probe: d.Probe}),
		app.New(app.Deps{Clusters: d.Clusters, Board: board, Guests: guests, Secrets: d.Secrets, Log: d.Log, Probe: d.Probe, Workers: d.AppWorkers}),
		vhost.New(vhost.Deps{Clusters: d.Clusters, Board: board, Credentials: opened, Log: d.Log, Probe: d.Probe}),
		operation.New(operation.Deps{Clusters: d.Clusters, Board: board, Syncs: previewer, Log: d.Log}),
	}
	if d.GitOps.Engine == nil {
		return all, used
	}
	return append(all, gitrepository.New(gitrepository.Deps{Sources: sources, Pokes: d.GitOps.Pokes, Log: d.Log}), syncs), used
}
