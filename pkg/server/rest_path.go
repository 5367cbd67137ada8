package server

import (
	"strings"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// apiRoot is where the kinds are.
const apiRoot = "/apis/" + resource.Group + "/" + resource.Version

// maxSegmentBytes bounds one segment of a path: a DNS name.
const maxSegmentBytes = 253

// subresourceStatus is what an object's controller says of it. The other subresources are
// subresourcePlan, subresourceUsage and, of Secrets, subresourceValues.
const subresourceStatus = "status"

// target is what a path under apiRoot names:
//
//	{plural}                                    a collection
//	{plural}/{name}[/{subresource}]             a cluster-scoped object
//	namespaces/{namespace}/{plural}             a collection of one namespace
//	namespaces/{namespace}/{plural}/{name}[/{subresource}]
//
// namespaces/{name} and namespaces/{name}/status, /plan and /usage are the Namespace itself.
type target struct {
	namespace   string
	plural      string
	name        string
	subresource string
}

// parsePath parses a path. Segments are DNS names: nothing that could be a way up, an
// escape or a separator gets through, and the empty segment of a doubled or trailing
// slash is no segment.
func parsePath(path string) (target, bool) {
	rest, ok := strings.CutPrefix(path, apiRoot+"/")
	if !ok {
		return target{}, false
	}
	segments := strings.SplitN(rest, "/", 6)
	for _, s := range segments {
		if !validSegment(s) {
			return target{}, false
		}
	}
	var t target
	if segments[0] == "namespaces" && len(segments) >= 3 && segments[2] != subresourceStatus && segments[2] != subresourcePlan && segments[2] != subresourceUsage {
		t.namespace, segments = segments[1], segments[2:]
	}
	switch len(segments) {
	case 1:
		t.plural = segments[0]
	case 2:
		t.plural, t.name = segments[0], segments[1]
	case 3:
		t.plural, t.name, t.subresource = segments[0], segments[1], segments[2]
	default:
		return target{}, false
	}
	return t, true
}

// path is the inverse of parsePath.
func (t target) path() string {
	segments := []string{apiRoot}
	if t.namespace != "" {
		segments = append(segments, "namespaces", t.namespace)
	}
	for _, s := range []string{t.plural, t.name, t.subresource} {
		if s != "" {
			segments = append(segments, s)
		}
	}
	return strings.Join(segments, "/")
}

func validSegment(s string) bool {
	if s == "" || len(s) > maxSegmentBytes || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}
