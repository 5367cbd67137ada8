package server

import (
	"context"
	"net/http"
	"slices"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

const (
	// usageCollection is the path segment of usage, as planCollection.
	usageCollection = "usage"
	// subresourceUsage is what one object uses.
	subresourceUsage = "usage"
)

// usageOf are the kinds that usage is told of, by what a request calls it. A Cluster's is
// that of its nodes.
var usageOf = map[string]string{"App": "apps", "Cluster": "nodes", "Namespace": "namespaces", "Appliance": "appliances"}

var usageRanges = []string{"hour", "day", "week", "month", "year"}

// usage checks a request, authorises it and has it answered.
func (c *core) usage(ctx context.Context, q *v1alpha1.UsageRequest) (*v1alpha1.UsageList, error) {
	if q.Of == "" {
		q.Of = usageOf["App"]
	}
	kind := ""
	for k, of := range usageOf {
		if of == q.Of {
			kind = k
		}
	}
	switch {
	case kind == "":
		return nil, apistatus.New(apistatus.BadRequest, "of %q: allowed are apps, nodes, namespaces and appliances", q.Of)
	case q.Range != "" && !slices.Contains(usageRanges, q.Range):
		return nil, apistatus.New(apistatus.BadRequest, "range %q: allowed are %s", q.Range, strings.Join(usageRanges, ", "))
	case q.Namespace != "" && kind != "App":
		return nil, apistatus.New(apistatus.BadRequest, "namespace %q: only Apps are in one", q.Namespace)
	case q.Cluster != "" && kind != "Cluster":
		return nil, apistatus.New(apistatus.BadRequest, "cluster %q: only nodes are asked for by cluster", q.Cluster)
	}
	if _, err := c.kind(kind); err != nil {
		return nil, err
	}
	if err := c.mayUse(ctx, kind, q); err != nil {
		return nil, err
	}
	if c.usages == nil {
		return nil, apistatus.New(apistatus.NotFound, "usage is not told here")
	}
	list, err := c.usages.Usage(ctx, q)
	if err == nil && len(list.GetItems()) == 0 && kind == "Cluster" && q.Name != "" {
		return nil, apistatus.New(apistatus.NotFound, "there is no node %s", q.Name)
	}
	return list, err
}

// mayUse authorises: who may read an object may know what it uses. What is named must exist.
func (c *core) mayUse(ctx context.Context, kind string, q *v1alpha1.UsageRequest) error {
	name := q.Name
	if kind == "Cluster" {
		name = q.Cluster
	}
	if name == "" || kind == "App" && q.Namespace == "" {
		return authorize(ctx, auth.VerbList, kind, q.Namespace)
	}
	_, err := c.get(ctx, resource.Key{Kind: kind, Namespace: q.Namespace, Name: name})
	return err
}

func (s *resourceService) Usage(ctx context.Context, req *v1alpha1.UsageRequest) (*v1alpha1.UsageList, error) {
	return s.core.usage(ctx, req)
}

// usageSet is GET of the usage of all that is asked for.
func (s *rest) usageSet(w http.ResponseWriter, r *http.Request, _ call) error {
	v := r.URL.Query()
	return s.answerUsage(w, r, &v1alpha1.UsageRequest{
		Of: v.Get("of"), Namespace: v.Get("namespace"), Name: v.Get("name"), Cluster: v.Get("cluster"), Range: v.Get("range"),
	})
}

// usageObject is GET of what one object uses.
func (s *rest) usageObject(w http.ResponseWriter, r *http.Request, c call) error {
	q := &v1alpha1.UsageRequest{Of: usageOf[c.kind.Name], Namespace: c.target.namespace, Name: c.target.name, Range: r.URL.Query().Get("range")}
	if c.kind.Name == "Cluster" {
		q.Cluster, q.Name = q.Name, ""
	}
	return s.answerUsage(w, r, q)
}

func (s *rest) answerUsage(w http.ResponseWriter, r *http.Request, q *v1alpha1.UsageRequest) error {
	list, err := s.core.usage(r.Context(), q)
	if err != nil {
		return err
	}
	answer, err := gatewayMarshaler{}.Marshal(list)
	if err != nil {
		return err
	}
	if len(answer) > MaxSendBytes {
		return apistatus.New(apistatus.RequestEntityTooLarge, "the answer has more than %d bytes: narrow the question by namespace or name", MaxSendBytes)
	}
	writeJSON(w, r, http.StatusOK, answer)
	return nil
}
