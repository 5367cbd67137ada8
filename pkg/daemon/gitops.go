package daemon

import (
	"context"
	"path/filepath"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/gitops/engine"
	"github.com/proximity-pve/proximity/pkg/gitops/git"
	"github.com/proximity-pve/proximity/pkg/gitops/webhook"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
	"github.com/proximity-pve/proximity/pkg/store"
)

// gitDir is where, in the data directory, fetched repositories are kept. It can be deleted.
const gitDir = "git"

// following is what follows repositories.
type following struct {
	controllers.GitOps
	webhooks *webhook.Receiver
}

// follow makes what follows repositories.
func follow(ctx context.Context, cfg Config, st store.Store, reg *resource.Registry, applier *apply.Applier, authorizer *auth.Authorizer, secrets *secretref.Resolver) (following, error) {
	cache := git.NewCache(filepath.Join(cfg.DataDir, gitDir))
	if err := tidy(ctx, st, cache); err != nil {
		return following{}, err
	}
	hooks := webhook.New(runtime.NewClient(st), secrets)
	return following{controllers.GitOps{
		Cache: cache, Engine: engine.New(applier, authorizer.As), Registry: reg, Pokes: hooks.Pokes(),
	}, hooks}, nil
}

// tidy forgets repositories whose objects are gone, which a stop in the middle of a deletion
// or a restored database can leave behind.
func tidy(ctx context.Context, st store.Store, cache *git.Cache) error {
	repos, err := runtime.List[*v1alpha1.GitRepository](ctx, runtime.NewClient(st), "GitRepository", "")
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(repos))
	for _, r := range repos {
		known[r.GetMetadata().GetUid()] = true
	}
	return cache.Keep(known)
}
