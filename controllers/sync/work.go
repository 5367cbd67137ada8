package sync

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops/git"
	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
	"github.com/proximity-pve/proximity/pkg/gitops/manifest"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// work is what there is to apply.
type work struct {
	repo             *v1alpha1.GitRepository
	commit, revision string
	subject, author  string
	path             string // clean
	options          manifest.Options
	// settings is a hash of all that decides beside the files; with theirs it is hash.
	settings string
	tree     git.Tree
	hash     string
}

// work finds the commit, or the one given, the values and keys, and lists the files. With an
// error it returns what it knows of the commit, nil when there is none.
func (r *reconciler) work(ctx context.Context, c runtime.Client, s *v1alpha1.Sync, commit string) (*work, error) {
	key := sourceOf(s)
	repo, err := runtime.Get[*v1alpha1.GitRepository](ctx, c, key)
	if errors.Is(err, runtime.ErrNotFound) {
		return nil, runtime.Waiting(sourceRetry, "SourceNotFound", "%s does not exist; create it", key)
	}
	if err != nil {
		return nil, err
	}
	artifact := repo.GetStatus().GetArtifact()
	if artifact.GetCommit() == "" {
		why := "it was not fetched yet"
		if c := resource.FindCondition(repo, "Ready"); c.GetMessage() != "" {
			why = c.GetMessage()
		}
		return nil, runtime.Waiting(sourceRetry, "SourceNotReady", "%s: %s", key, why)
	}
	w := &work{repo: repo, commit: artifact.GetCommit(), revision: artifact.GetRevision(), subject: artifact.GetSubject(), author: artifact.GetAuthor()}
	if commit != "" && commit != w.commit {
		w.commit, w.revision = commit, "sha1:"+commit
	}
	if w.path, err = gitspec.CleanPath(s.GetSpec().GetPath()); err != nil {
		return w, &refusal{git.ReasonInvalidSpec, fmt.Sprintf("spec.path: %v", err)}
	}
	if err := r.settings(ctx, c, s, w); err != nil {
		return w, err
	}
	return w, r.list(ctx, c, s, w)
}

// settings opens values and keys.
func (r *reconciler) settings(ctx context.Context, c runtime.Client, s *v1alpha1.Sync, w *work) error {
	spec := s.GetSpec()
	h := sha256.New()
	note := func(parts ...string) { fmt.Fprintf(h, "%q\n", parts) }
	note("paths", w.path, strings.Join(spec.GetExclude(), "\n"))
	if w.repo.GetSpec().GetSubmodules() {
		note("submodules")
	}
	note("namespaces", targetOf(s), strings.Join(spec.GetNamespaces(), ","))
	values := map[string]string{}
	var names []string
	for name, value := range spec.GetSubstitute() {
		values[name] = value
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		note("value", name, values[name])
	}
	for _, from := range spec.GetSubstituteFrom() {
		v, err := r.Secrets.Resolve(ctx, c, s, from.GetSecretKeyRef())
		if err != nil {
			return err
		}
		values[from.GetName()] = string(v.Bytes())
		note("secret", from.GetName(), v.Version())
	}
	var keys []string
	for _, ref := range spec.GetDecryption().GetAgeKeyRefs() {
		v, err := r.Secrets.Resolve(ctx, c, s, ref)
		if err != nil {
			return err
		}
		keys = append(keys, string(v.Bytes()))
		note("key", v.Version())
	}
	w.options = manifest.Options{Registry: r.Registry}
	if len(values) > 0 {
		w.options.Values = values
	}
	if len(keys) > 0 {
		var err error
		if w.options.Keys, err = manifest.ParseKeys(keys...); err != nil {
			return &refusal{git.ReasonInvalidSpec, fmt.Sprintf("spec.decryption.ageKeyRefs: %v", err)}
		}
	}
	w.settings = hex.EncodeToString(h.Sum(nil))
	return nil
}

// list lists the files of the commit.
func (r *reconciler) list(ctx context.Context, c runtime.Client, s *v1alpha1.Sync, w *work) (err error) {
	snap, err := r.Open(ctx, c, w.repo, w.commit)
	if err != nil {
		return r.Drop(w.repo, err)
	}
	defer func() { err = r.Drop(w.repo, errors.Join(err, snap.Close())) }()
	if w.subject == "" || !strings.HasSuffix(w.repo.GetStatus().GetArtifact().GetRevision(), w.commit) {
		about, err := snap.Commit(w.commit)
		if err != nil {
			return err
		}
		w.subject, w.author = about.Subject, about.Author
		if err := r.verified(w, about); err != nil {
			return err
		}
	}
	id, err := snap.TreeID(w.path)
	if err != nil {
		return err
	}
	if known := r.memory.tree(s, w.settings, id); known != nil {
		w.tree = *known
	} else if w.tree, err = snap.Walk(ctx, w.path, s.GetSpec().GetExclude(), manifest.Wanted, git.Limits{}); err != nil {
		return err
	}
	w.hash = w.sum()
	return nil
}

// sum is equal for commits that have the same manifests, whatever else is beside them.
func (w *work) sum() string {
	h := sha256.New()
	fmt.Fprintln(h, w.settings)
	for _, f := range w.tree.Files {
		fmt.Fprintf(h, "%s %q\n", f.Blob, f.Path)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// verified holds an old commit, which spec.revision names, to what the source demands.
func (r *reconciler) verified(w *work, about *git.Commit) error {
	demanded := w.repo.GetSpec().GetVerify()
	if demanded == nil {
		return nil
	}
	keys, err := git.ParseKeys(demanded.GetKeys())
	if err != nil {
		return &refusal{git.ReasonInvalidSpec, fmt.Sprintf("spec.verify.keys of %s: %v", resource.KeyOf(w.repo), err)}
	}
	_, err = keys.Verify(about)
	return err
}

// sourceOf is the key of a Sync's repository.
func sourceOf(s *v1alpha1.Sync) resource.Key {
	return resource.Key{Kind: "GitRepository", Namespace: s.GetMetadata().GetNamespace(), Name: s.GetSpec().GetSourceRef().GetName()}
}

// targetOf is the namespace of manifests that name none.
func targetOf(s *v1alpha1.Sync) string {
	if ns := s.GetSpec().GetTargetNamespace(); ns != "" {
		return ns
	}
	return s.GetMetadata().GetNamespace()
}
