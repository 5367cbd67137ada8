// Package source is a GitRepository as the daemon reaches and keeps it: with its secrets
// opened, in the cache.
package source

import (
	"bytes"
	"context"
	"errors"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops/git"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
)

// Sources is the cache and what opens secrets.
type Sources struct {
	Cache   *git.Cache
	Secrets *secretref.Resolver
}

// CacheID is the name of a repository in the cache.
func CacheID(r *v1alpha1.GitRepository) string { return r.GetMetadata().GetUid() }

// RefOf is what a repository follows.
func RefOf(r *v1alpha1.GitRepository) git.Ref {
	ref := r.GetSpec().GetRef()
	return git.Ref{Branch: ref.GetBranch(), Tag: ref.GetTag(), Semver: ref.GetSemver(), Commit: ref.GetCommit()}
}

// Remote is how to reach a repository. Errors are those of package secretref.
func (s Sources) Remote(ctx context.Context, c runtime.Client, r *v1alpha1.GitRepository) (git.Remote, error) {
	spec := r.GetSpec()
	remote := git.Remote{URL: spec.GetUrl(), Limits: LimitsOf(r), Submodules: spec.GetSubmodules(), Auth: git.Auth{
		Username: spec.GetAuth().GetUsername(), KnownHosts: []byte(spec.GetKnownHosts()), CA: []byte(spec.GetCaBundle()),
	}}
	var password, token []byte
	for _, secret := range []struct {
		ref  *v1alpha1.SecretKeyRef
		into *[]byte
	}{
		{spec.GetAuth().GetPasswordRef(), &password},
		{spec.GetAuth().GetTokenRef(), &token},
		{spec.GetAuth().GetPrivateKeyRef(), &remote.Auth.PrivateKey},
		{spec.GetAuth().GetPassphraseRef(), &remote.Auth.Passphrase},
	} {
		if secret.ref == nil {
			continue
		}
		v, err := s.Secrets.Resolve(ctx, c, r, secret.ref)
		if err != nil {
			return remote, err
		}
		*secret.into = v.Bytes()
	}
	remote.Auth.Password, remote.Auth.Token = line(password), line(token)
	remote.Auth.Passphrase = []byte(line(remote.Auth.Passphrase))
	return remote, nil
}

// line is a value without the line break that editors put at the end of a file.
func line(value []byte) string { return string(bytes.TrimRight(value, "\r\n")) }

// LimitsOf are the bounds that a repository sets.
func LimitsOf(r *v1alpha1.GitRepository) git.Limits {
	var l git.Limits
	if d, err := time.ParseDuration(r.GetSpec().GetTimeout()); err == nil {
		l.Timeout = d
	}
	if n, err := resource.ParseQuantity(r.GetSpec().GetMaxSize()); err == nil && n > 0 {
		l.PackBytes, l.CacheBytes = n, 2*n
	}
	return l
}

// Open gives a commit to read that is in the cache, or is fetched into it.
func (s Sources) Open(ctx context.Context, c runtime.Client, r *v1alpha1.GitRepository, commit string) (*git.Snapshot, error) {
	id, url, submodules := CacheID(r), r.GetSpec().GetUrl(), r.GetSpec().GetSubmodules()
	snap, err := s.Cache.Open(id, url, commit, submodules)
	if err == nil || git.ReasonOf(err) != git.ReasonCacheUnavailable {
		return snap, err
	}
	remote, err := s.Remote(ctx, c, r)
	if err != nil {
		return nil, err
	}
	if err := s.Cache.Ensure(ctx, id, remote, commit, r.GetSpec().GetRef().GetBranch()); err != nil {
		return nil, err
	}
	return s.Cache.Open(id, url, commit, submodules)
}

// Drop throws a repository out of the cache when err says that it is damaged; it returns err.
func (s Sources) Drop(r *v1alpha1.GitRepository, err error) error {
	if git.ReasonOf(err) != git.ReasonCorrupt {
		return err
	}
	return errors.Join(err, s.Cache.Drop(CacheID(r)))
}
