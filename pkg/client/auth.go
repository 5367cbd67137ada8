package client

import (
	"context"

	"google.golang.org/grpc"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// Auth calls a method of AuthService: Auth(ctx, c, v1alpha1.AuthServiceClient.Login, req).
func Auth[Q, A any](ctx context.Context, c *Client, method func(v1alpha1.AuthServiceClient, context.Context, Q, ...grpc.CallOption) (A, error), req Q) (A, error) {
	resp, err := method(c.auth, ctx, req)
	return resp, c.fail(ctx, err)
}
