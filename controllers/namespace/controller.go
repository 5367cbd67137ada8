// Package namespace reconciles kind Namespace: it only states that the project is there.
// A namespace that still has objects cannot be deleted; the API refuses that.
package namespace

import (
	"context"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

type reconciler struct{}

// New makes the controller.
func New() *runtime.Controller {
	return runtime.New(runtime.Options[*v1alpha1.Namespace]{Kind: "Namespace", Reconciler: reconciler{}, Ready: []string{"Active"}})
}

// Reconcile sets the phase.
func (reconciler) Reconcile(_ context.Context, s *runtime.Session[*v1alpha1.Namespace]) (runtime.Result, error) {
	if s.Object.Status == nil {
		s.Object.Status = &v1alpha1.NamespaceStatus{}
	}
	s.Object.Status.Phase = proto.String("Active")
	s.True("Active", "Active", "the namespace can be used")
	return runtime.Result{}, nil
}

// Finalize has nothing to do.
func (reconciler) Finalize(context.Context, *runtime.Session[*v1alpha1.Namespace]) (runtime.Result, error) {
	return runtime.Result{}, nil
}
