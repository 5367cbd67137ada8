package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
)

// ociReference is what Proxmox VE 9.1 takes: a tag is needed, a digest is refused, and
// there is no way to give credentials.
var ociReference = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._:/-]*:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$`)

// OCITags asks a registry for the tags of a repository such as docker.io/library/nginx,
// since 9.1; it needs Sys.AccessNetwork on the node. The node asks while we wait, so a slow
// registry ends in a 596 after 30 s, which for a read is harmless.
func (c *Client) OCITags(ctx context.Context, node, repository string) ([]string, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	r := route(http.MethodGet, "/nodes/{node}/query-oci-repo-tags", node).with("reference", repository)
	return fetch[[]string](ctx, c, r)
}

// PullOCI has the node pull an image into a storage, as the template FILENAME.tar (""
// derives a name from the reference), since 9.1. A present file is refused at once. It
// needs Datastore.AllocateTemplate on the storage and Sys.AccessNetwork on the node.
func (c *Client) PullOCI(ctx context.Context, node, storage, reference, filename string) (UPID, error) {
	if err := checkStorage(node, storage); err != nil {
		return UPID{}, err
	}
	if !ociReference.MatchString(reference) {
		return UPID{}, fmt.Errorf("proxmox: pull image %.120q: want [registry/]repository:tag, without a digest", reference)
	}
	r := route(http.MethodPost, "/nodes/{node}/storage/{storage}/oci-registry-pull", node, storage)
	return launch(ctx, c, r.with("reference", reference).with("filename", filename))
}
