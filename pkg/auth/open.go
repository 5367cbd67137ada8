package auth

import "slices"

// Surface is a way in.
type Surface string

// Surfaces.
const (
	REST Surface = "rest"
	GRPC Surface = "grpc"
)

// OpenRoute is something that needs no credential.
type OpenRoute struct {
	Surface Surface
	// Name is "METHOD /path" for REST and "/service/method" for gRPC, matched exactly.
	Name string
	// Why it is open.
	Why string
}

// openRoutes is the whole table. The streams of the gRPC health service (Watch) are not
// in it: each would hold a stream of the server for a caller nobody knows.
var openRoutes = []OpenRoute{
	{REST, "GET /healthz", "supervisors ask whether the process serves"},
	{REST, "GET /readyz", "supervisors ask whether the daemon is ready"},
	{GRPC, "/grpc.health.v1.Health/Check", "the same for gRPC clients and load balancers"},
	{REST, "POST /webhooks/git", "Git servers call it; the signature of the body is the credential"},
	{REST, "POST /api/v1/auth/login", "who logs in has no credential yet"},
	{GRPC, "/proximity.v1alpha1.AuthService/Login", "who logs in has no credential yet"},
	{REST, "POST /api/v1/auth/refresh", "the refresh token is the credential"},
	{GRPC, "/proximity.v1alpha1.AuthService/Refresh", "the refresh token is the credential"},
	{REST, "POST /api/v1/auth/register", "the setup token is the credential, or registration is on"},
	{GRPC, "/proximity.v1alpha1.AuthService/Register", "the setup token is the credential, or registration is on"},
}

// OpenRoutes returns a copy of the table.
func OpenRoutes() []OpenRoute { return slices.Clone(openRoutes) }

// IsOpen tells whether the route needs no credential.
func IsOpen(surface Surface, name string) bool {
	return slices.ContainsFunc(openRoutes, func(r OpenRoute) bool {
		return r.Surface == surface && r.Name == name
	})
}
