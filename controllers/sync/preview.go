package sync

import (
	"context"
	"errors"
	"fmt"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops"
	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
	"github.com/proximity-pve/proximity/pkg/gitops/source"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Previewer tells what a Sync would do with a commit.
type Previewer struct{ r *reconciler }

// maxPreview bounds the lines of a preview.
const maxPreview = 1000

// Preview returns, line by line, what applying a commit would change; nothing is changed.
// The commit is a full name, or "" for the newest that the server has now; that it is fetched
// for this changes nothing for the Sync.
func (p *Previewer) Preview(ctx context.Context, c runtime.Client, key resource.Key, commit string) (lines []string, summary string, err error) {
	s, err := runtime.Get[*v1alpha1.Sync](ctx, c, key)
	if err != nil {
		return nil, "", err
	}
	if commit != "" && !gitspec.IsCommit(commit) {
		return nil, "", fmt.Errorf("the revision %q: allowed are 40 hexadecimal digits", commit)
	}
	// Nothing that the controller remembers is used or changed: it may be at work.
	own := &reconciler{Deps: p.r.Deps, memory: newMemory()}
	if commit == "" {
		if commit, err = own.newest(ctx, c, s); err != nil {
			return nil, "", err
		}
	}
	w, err := own.work(ctx, c, s, commit)
	if err != nil {
		return nil, "", err
	}
	set, err := own.load(ctx, c, s, w)
	if err != nil {
		return nil, "", err
	}
	req, err := own.request(s, w, set)
	if err != nil {
		return nil, "", err
	}
	req.DryRun, req.Correct = true, true
	var blocked *refusal
	guarded := req.Guard
	req.Guard = func(deleting []resource.Object) error {
		if err := guarded(deleting); !errors.As(err, &blocked) {
			return err
		}
		return nil // it is told, with everything else
	}
	o, err := own.Engine.Follow(ctx, req)
	if err != nil {
		return nil, "", err
	}
	lines = preview(o)
	if blocked != nil {
		lines = append(lines, "blocked: "+blocked.text)
	}
	if len(lines) > maxPreview {
		lines = append(lines[:maxPreview:maxPreview], fmt.Sprintf("and %d more lines", len(lines)-maxPreview))
	}
	return lines, fmt.Sprintf("%s %q: %s", w.revision, w.subject, inWords(count(o))), nil
}

// newest fetches what the source's reference names now.
func (r *reconciler) newest(ctx context.Context, c runtime.Client, s *v1alpha1.Sync) (string, error) {
	repo, err := runtime.Get[*v1alpha1.GitRepository](ctx, c, sourceOf(s))
	if err != nil {
		return "", err
	}
	remote, err := r.Remote(ctx, c, repo)
	if err != nil {
		return "", err
	}
	fetched, err := r.Cache.Fetch(ctx, source.CacheID(repo), remote, source.RefOf(repo))
	return fetched.Commit, err
}

func preview(o *gitops.Outcome) []string {
	var lines []string
	for _, list := range [][]gitops.Result{o.Results, o.Pruned, o.Kept} {
		for _, res := range list {
			if res.Outcome == gitops.Unchanged {
				continue
			}
			line := fmt.Sprintf("%s %s", res.Key, res.Outcome)
			if res.File != "" {
				line += " (" + res.File + ")"
			}
			if res.Message != "" {
				line += ": " + res.Message
			}
			lines = append(lines, line)
			if res.Outcome != gitops.Configured {
				continue
			}
			for _, ch := range res.Changes {
				lines = append(lines, fmt.Sprintf("  %s: %s -> %s", ch.Path, orUnset(ch.Old), orUnset(ch.New)))
			}
		}
	}
	return lines
}

func orUnset(value string) string {
	if value == "" {
		return "(unset)"
	}
	return strings.ReplaceAll(value, "\n", " ")
}
