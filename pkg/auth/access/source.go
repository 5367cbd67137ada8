package access

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Whoever says what a repository's identity applies acts with that identity's rights: another
// URL, branch or key, another path or substitution. So it takes what giving it these rights
// takes. What only says when, and how often, is anybody's who may change the object.

const (
	kindRepository = "GitRepository"
	kindSync       = "Sync"
	ownIdentity    = "own"
)

// checkRepository: a change of what is read is one of what all who apply from it apply.
func (g *Guard) checkRepository(ctx context.Context, tx store.Tx, was, is resource.Object) error {
	repo, _ := is.(*v1alpha1.GitRepository)
	old, _ := was.(*v1alpha1.GitRepository)
	if repo == nil || old != nil && proto.Equal(readFrom(old), readFrom(repo)) {
		return nil
	}
	m := repo.GetMetadata()
	if err := mayDecideFor(ctx, auth.GitRepository(m.GetNamespace(), m.GetName())); err != nil {
		return err
	}
	// Syncs with rights of their own, which apply from it.
	for _, subject := range auth.BoundTo(ctx, auth.SubjectSync) {
		namespace, name, _ := strings.Cut(subject, "/")
		if namespace != m.GetNamespace() {
			continue
		}
		obj, err := tx.Get(resource.Key{Kind: kindSync, Namespace: namespace, Name: name})
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		s, _ := obj.(*v1alpha1.Sync)
		if s.GetSpec().GetIdentity() != ownIdentity || s.GetSpec().GetSourceRef().GetName() != m.GetName() {
			continue
		}
		if err := mayDecideFor(ctx, auth.Sync(namespace, name)); err != nil {
			return err
		}
	}
	return nil
}

// readFrom is what of a repository decides on what is read.
func readFrom(repo *v1alpha1.GitRepository) *v1alpha1.GitRepositorySpec {
	s, _ := proto.Clone(repo.GetSpec()).(*v1alpha1.GitRepositorySpec)
	if s != nil {
		s.Interval, s.Timeout, s.Webhook, s.Suspend, s.MaxSize = nil, nil, nil, nil, nil
	}
	return s
}

func checkSync(ctx context.Context, was, is resource.Object) error {
	sync, _ := is.(*v1alpha1.Sync)
	old, _ := was.(*v1alpha1.Sync)
	if sync == nil || old != nil && proto.Equal(applies(old), applies(sync)) {
		return nil
	}
	m, spec := sync.GetMetadata(), sync.GetSpec()
	if spec.GetIdentity() == ownIdentity {
		return mayDecideFor(ctx, auth.Sync(m.GetNamespace(), m.GetName()))
	}
	return mayDecideFor(ctx, auth.GitRepository(m.GetNamespace(), spec.GetSourceRef().GetName()))
}

// applies is what of a Sync decides on what is applied.
func applies(sync *v1alpha1.Sync) *v1alpha1.SyncSpec {
	s, _ := proto.Clone(sync.GetSpec()).(*v1alpha1.SyncSpec)
	if s != nil {
		s.Interval, s.RetryInterval, s.Timeout, s.Suspend, s.Wait, s.DependsOn = nil, nil, nil, nil, nil, nil
	}
	return s
}

// mayDecideFor refuses who has not all that the identity has, unless he may bind any role.
func mayDecideFor(ctx context.Context, id auth.Identity) error {
	if auth.Authorize(ctx, auth.VerbBind, kindRole, "") == nil {
		return nil
	}
	if err := auth.MayActFor(ctx, id); err != nil {
		return fmt.Errorf("this decides what %s does: %w", id.Name, err)
	}
	return nil
}
