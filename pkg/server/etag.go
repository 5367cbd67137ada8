package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// An object's ETag is its resourceVersion: it changes with every change. HTTP's own
// preconditions (RFC 9110, section 13) are for callers who know nothing of
// resourceVersions; those who do send them in the object.

func etagOf(obj resource.Object) string { return `"` + obj.GetMetadata().GetResourceVersion() + `"` }

// notModified tells whether the caller has the object already: If-None-Match of a GET.
func notModified(r *http.Request, etag string) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	return slices.ContainsFunc(etagsIn(r, "If-None-Match"), func(tag string) bool {
		return tag == "*" || strings.TrimPrefix(tag, "W/") == etag
	})
}

func etagsIn(r *http.Request, header string) []string {
	var tags []string
	for tag := range strings.SplitSeq(strings.Join(r.Header.Values(header), ","), ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}

// ifMatch returns the resourceVersion that a write demands by If-Match, "" when it
// demands none.
func ifMatch(r *http.Request) (string, error) {
	tags := etagsIn(r, "If-Match")
	if len(tags) == 0 || len(tags) == 1 && tags[0] == "*" {
		return "", nil
	}
	version, begins := strings.CutPrefix(tags[0], `"`)
	version, ends := strings.CutSuffix(version, `"`)
	if len(tags) > 1 || !begins || !ends || version == "" {
		return "", apistatus.New(apistatus.BadRequest, "If-Match %.80q: allowed is one ETag as the server gave it out", strings.Join(tags, ", "))
	}
	return version, nil
}

// matched makes a write depend on If-Match: it returns the resourceVersion to demand, and
// a function that turns a conflict into what HTTP calls it.
func matched(r *http.Request, version string) (string, func(error) error, error) {
	same := func(err error) error { return err }
	demanded, err := ifMatch(r)
	if err != nil || demanded == "" {
		return version, same, err
	}
	if version != "" && version != demanded {
		return "", same, apistatus.New(apistatus.BadRequest, "If-Match demands resourceVersion %s, the request names %s", demanded, version)
	}
	return demanded, apistatus.Precondition, nil
}

// noIfMatch refuses the header where it has no effect, for ignoring it would change what
// was to be left alone.
func noIfMatch(r *http.Request) error {
	if demanded, err := ifMatch(r); err != nil || demanded != "" {
		return apistatus.New(apistatus.BadRequest, "If-Match is for PUT and DELETE: here set metadata.resourceVersion in the body")
	}
	return nil
}
