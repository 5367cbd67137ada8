package operation

import (
	"cmp"
	"context"
	"fmt"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Previewer tells what a Sync would do with a commit, "" for the newest.
type Previewer interface {
	Preview(ctx context.Context, c runtime.Client, sync resource.Key, commit string) (lines []string, summary string, err error)
}

// preview is a Sync that is asked what it would do.
type preview struct {
	syncs  Previewer
	client runtime.Client
	key    resource.Key
}

func (r *reconciler) syncTarget(s *session, ref *v1alpha1.ObjectReference) (subject, error) {
	own := s.Object.GetMetadata().GetNamespace()
	if ns := cmp.Or(ref.GetNamespace(), own); ns != own {
		return nil, fmt.Errorf("the Sync is in namespace %s and the operation in %s; they must be in the same", ns, own)
	}
	return &preview{r.Syncs, s.Client, resource.Key{Kind: "Sync", Namespace: own, Name: ref.GetName()}}, nil
}

func (p *preview) label() string { return p.key.Name }

func (p *preview) do(ctx context.Context, spec *v1alpha1.OperationSpec) (outcome, error) {
	lines, summary, err := p.syncs.Preview(ctx, p.client, p.key, spec.GetArguments()["revision"])
	if err != nil {
		return outcome{}, err
	}
	return outcome{message: summary, log: lastOf(lines, maxLog), result: map[string]string{"changes": fmt.Sprint(len(lines))}}, nil
}
