package openapi

import (
	"net/http"

	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// SystemRoute is one of the platform's own routes. A test holds the table to
// gateway.yaml beside the protos, which the gateway's code is generated from.
type SystemRoute struct {
	Method string
	Path   string
	RPC    protoreflect.Name // method of SystemService
}

// SystemRoutes are the routes of SystemService.
var SystemRoutes = []SystemRoute{
	{http.MethodGet, "/api/v1/system/infrastructure/status", "InfrastructureStatus"},
	{http.MethodPost, "/api/v1/system/infrastructure/appliance/restart", "RestartAppliance"},
	{http.MethodGet, "/api/v1/system/infrastructure/appliance/logs", "ApplianceLogs"},
	{http.MethodPost, "/api/v1/system/infrastructure/test-nat", "TestNAT"},
	{http.MethodGet, "/api/v1/system/proxy/status", "ProxyStatus"},
}

func (r SystemRoute) descriptor() protoreflect.MethodDescriptor {
	return v1alpha1.File_proximity_v1alpha1_system_proto.Services().ByName("SystemService").Methods().ByName(r.RPC)
}

// Parameters are the names of the query parameters: the fields of the request.
func (r SystemRoute) Parameters() []string {
	fields := r.descriptor().Input().Fields()
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = fields.Get(i).JSONName()
	}
	return names
}

// Operation tells whether the answer is an Operation, which can be waited for.
func (r SystemRoute) Operation() bool {
	return r.descriptor().Output().FullName() == (&v1alpha1.Operation{}).ProtoReflect().Descriptor().FullName()
}
