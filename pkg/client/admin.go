package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// Snapshot writes a backup of the daemon's database to w, in the format of package
// store/snapshot. Whether it is whole tells its trailer: verify it before it is relied on.
func (c *Client) Snapshot(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream when w fails
	stream, err := c.admin.Snapshot(ctx, &v1alpha1.SnapshotRequest{})
	if err != nil {
		return c.fail(ctx, err)
	}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.fail(ctx, err)
		}
		if _, err := w.Write(chunk.GetData()); err != nil {
			return fmt.Errorf("write the snapshot: %w", err)
		}
	}
}
