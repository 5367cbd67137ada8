package client

import (
	"context"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// Usage tells what Apps, nodes, namespaces or appliances use. History that the daemon does
// not know yet is read in the background: as long as the answer's pending is not 0, ask again.
func (c *Client) Usage(ctx context.Context, req *v1alpha1.UsageRequest) (*v1alpha1.UsageList, error) {
	list, err := c.rpc.Usage(ctx, req)
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	return list, nil
}
