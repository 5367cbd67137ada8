package daemon

import (
	"context"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// usageDesk lets the server ask what is used, without knowing who knows.
type usageDesk struct {
	desk   *controllers.Usage
	client runtime.Client
}

// Usage implements server.Usage.
func (u usageDesk) Usage(ctx context.Context, q *v1alpha1.UsageRequest) (*v1alpha1.UsageList, error) {
	return u.desk.Report(ctx, u.client, q)
}
