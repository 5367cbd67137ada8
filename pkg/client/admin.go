package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// adminTimeout bounds calls that read the whole database.
const adminTimeout = time.Hour

// CheckDatabase lets the daemon look for what is wrong with its database.
func (c *Client) CheckDatabase(ctx context.Context) (*v1alpha1.DatabaseReport, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	resp, err := c.admin.Check(ctx, &v1alpha1.CheckRequest{})
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	return resp.GetReport(), nil
}

// Audit returns records of who changed what, at most req.Limit of them.
func (c *Client) Audit(ctx context.Context, req *v1alpha1.AuditRequest) ([]*v1alpha1.AuditRecord, error) {
	resp, err := c.admin.Audit(ctx, req)
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	return resp.GetRecords(), nil
}

// Defrag lets the daemon rewrite its database without unused pages; it returns the size of
// the file before and after, in bytes. Writes wait meanwhile.
func (c *Client) Defrag(ctx context.Context) (before, after int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	resp, err := c.admin.Defrag(ctx, &v1alpha1.DefragRequest{})
	if err != nil {
		return 0, 0, c.fail(ctx, err)
	}
	return resp.GetBeforeBytes(), resp.GetAfterBytes(), nil
}

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

// AuditTrail returns lines of the audit trail, at most req.Limit of them.
func (c *Client) AuditTrail(ctx context.Context, req *v1alpha1.AuditTrailRequest) ([]string, error) {
	resp, err := c.admin.AuditTrail(ctx, req)
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	return resp.GetLines(), nil
}

// VerifyAudit lets the daemon check its audit trail. head, if not empty, is a hash that was
// noted earlier.
func (c *Client) VerifyAudit(ctx context.Context, head string) (*v1alpha1.VerifyAuditResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	resp, err := c.admin.VerifyAudit(ctx, &v1alpha1.VerifyAuditRequest{Head: head})
	return resp, c.fail(ctx, err)
}

// Rekey makes a new key of sealed values, or finishes an earlier change of keys, and returns
// how many values were sealed anew.
func (c *Client) Rekey(ctx context.Context, finish bool) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	resp, err := c.admin.Rekey(ctx, &v1alpha1.RekeyRequest{Finish: finish})
	return int(resp.GetValues()), c.fail(ctx, err)
}

// ReadSecret returns the values of a Secret by their paths.
func (c *Client) ReadSecret(ctx context.Context, namespace, name string) (map[string]string, error) {
	resp, err := c.rpc.ReadSecret(ctx, &v1alpha1.ReadSecretRequest{Namespace: namespace, Name: name})
	return resp.GetValues(), c.fail(ctx, err)
}
