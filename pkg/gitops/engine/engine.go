// Package engine admits what comes from repositories: it is gitops.Engine over package apply,
// as an identity that may do what RoleBindings give it and nothing else.
package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/apply/diff"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/gitops"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Engine implements gitops.Engine.
type Engine struct {
	applier *apply.Applier
	// as puts an identity into a context, under the policy that is in force.
	as func(ctx context.Context, id auth.Identity) context.Context
}

// New makes an Engine; as is auth.Authorizer.As. That nobody gives rights that he has not
// himself is up to the guard of the Applier, which sees the identity in the context.
func New(applier *apply.Applier, as func(context.Context, auth.Identity) context.Context) *Engine {
	return &Engine{applier, as}
}

// Prepare implements gitops.Engine.
func (e *Engine) Prepare(doc resource.Document, sync resource.Key) (gitops.Prepared, error) {
	p, err := e.applier.Prepare(doc, sync)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// identity is as whom a request is carried out.
func identity(id gitops.Identity) auth.Identity {
	if id.Own {
		return auth.Sync(id.Sync.Namespace, id.Sync.Name)
	}
	return auth.GitRepository(id.Source.Namespace, id.Source.Name)
}

// Follow implements gitops.Engine.
func (e *Engine) Follow(ctx context.Context, r gitops.Request) (*gitops.Outcome, error) {
	id := identity(r.Identity)
	ctx = audit.WithOrigin(e.as(ctx, id), audit.Origin{Type: id.Type.String(), Identity: id.Name, Surface: "gitops", GitRevision: r.Revision})
	if err := e.authorize(ctx, r); err != nil {
		return nil, err
	}
	src := apply.Source{
		Sync: r.Sync, Docs: make([]apply.FollowDocument, len(r.Docs)), Owned: r.Owned, Gone: r.Gone, Keep: r.Keep,
		Correct: r.Correct, Force: r.Force, DryRun: r.DryRun, Guard: r.Guard,
	}
	for i, d := range r.Docs {
		p, ok := d.Prepared.(*apply.Prepared)
		if !ok {
			return nil, fmt.Errorf("%s was not prepared by this engine", d.Key())
		}
		seen, _ := d.Seen.(*apply.Stamp)
		src.Docs[i] = apply.FollowDocument{Prepared: p, Same: d.Same, Seen: seen}
	}
	if r.Record != nil && !r.DryRun {
		src.Record = func(tx store.Tx, f *apply.Followed) error { return r.Record(runtime.Tx(tx), outcome(f)) }
	}
	f, err := e.applier.Follow(ctx, src)
	if err != nil {
		return nil, forbidden(err)
	}
	o := outcome(f)
	if r.DryRun {
		for i := range o.Results {
			o.Results[i].Changes = changes(o.Results[i])
		}
	}
	return o, nil
}

func changes(r gitops.Result) []gitops.Change {
	if r.Outcome != gitops.Configured {
		return nil
	}
	var list []gitops.Change
	for _, c := range diff.Objects(r.Before, r.Object) {
		list = append(list, gitops.Change{Path: c.Path, Old: c.Old, New: c.New})
	}
	return list
}

// authorize asks for every kind and namespace once.
func (e *Engine) authorize(ctx context.Context, r gitops.Request) error {
	type scope struct {
		verb            auth.Verb
		kind, namespace string
	}
	allowed := map[scope]bool{}
	ask := func(s scope) error {
		if allowed[s] {
			return nil
		}
		if err := auth.Authorize(ctx, s.verb, s.kind, s.namespace); err != nil {
			return forbidden(err)
		}
		allowed[s] = true
		return nil
	}
	for _, d := range r.Docs {
		key := d.Key()
		if err := ask(scope{auth.VerbApply, key.Kind, key.Namespace}); err != nil {
			return fmt.Errorf("%s: %w", d.Document().Source, err)
		}
	}
	if r.Keep {
		return nil
	}
	for _, key := range r.Gone {
		if err := ask(scope{auth.VerbPrune, key.Kind, key.Namespace}); err != nil {
			return err
		}
	}
	return nil
}

func forbidden(err error) error {
	if errors.Is(err, auth.ErrForbidden) {
		return &refusal{err}
	}
	return err
}

// refusal is gitops.ErrForbidden with the words of package auth.
type refusal struct{ error }

func (r *refusal) Is(target error) bool { return target == gitops.ErrForbidden }
func (r *refusal) Unwrap() error        { return r.error }

func outcome(f *apply.Followed) *gitops.Outcome {
	return &gitops.Outcome{Results: results(f.Results), Pruned: results(f.Pruned), Kept: results(f.Kept), Pending: f.Pending}
}

func results(list []apply.FollowResult) []gitops.Result {
	out := make([]gitops.Result, len(list))
	for i, r := range list {
		out[i] = gitops.Result{Key: r.Key, Outcome: r.Outcome, File: r.File, Message: r.Message, Before: r.Before, Object: r.Object}
		if r.Stamp != nil {
			out[i].Seen = r.Stamp
		}
	}
	return out
}
