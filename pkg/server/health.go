package server

import (
	"context"
	"time"

	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// health is the standard gRPC health service over the daemon's readiness, which is the
// state of the server as a whole ("") and of each of its services.
type health struct {
	*grpchealth.Server
	ready func() error
}

func newHealth(ready func() error) *health {
	h := &health{Server: grpchealth.NewServer(), ready: ready}
	h.refresh()
	return h
}

func (h *health) refresh() {
	status := healthpb.HealthCheckResponse_SERVING
	if h.ready() != nil {
		status = healthpb.HealthCheckResponse_NOT_SERVING
	}
	for _, service := range []string{"", v1alpha1.ResourceService_ServiceDesc.ServiceName, v1alpha1.SystemService_ServiceDesc.ServiceName} {
		h.SetServingStatus(service, status)
	}
}

// Check answers with the readiness of this moment.
func (h *health) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	h.refresh()
	return h.Server.Check(ctx, req)
}

// run tells those who watch, until the context ends.
func (h *health) run(ctx context.Context) {
	tick := time.NewTicker(readyInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			h.Shutdown()
			return
		case <-tick.C:
			h.refresh()
		}
	}
}
