package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// WebhookPath is where Git servers tell that something was pushed:
// POST /webhooks/git?repository=NAMESPACE/NAME. It needs no credential: the signature of the
// body is one.
const WebhookPath = "/webhooks/git"

// maxWebhookBytes bounds the body of such a call: GitHub sends up to 25 MB. It is hashed as it
// comes, and not kept.
const maxWebhookBytes = 25 << 20

// Webhooks takes the calls of Git servers. It is a port, wired by the daemon. It checks the
// signature, in constant time, and lets the repository be looked at; nothing else of a call
// has an effect.
type Webhooks interface {
	// Deliver tells whether the call is signed with the secret of the repository. Whether
	// there is such a repository is not told. The body is read to its end; an error of it ends
	// the call.
	Deliver(ctx context.Context, namespace, name string, header http.Header, body io.Reader) (accepted bool, err error)
}

func (s *rest) webhook(w http.ResponseWriter, r *http.Request, _ call) error {
	namespace, name, ok := strings.Cut(r.URL.Query().Get("repository"), "/")
	if !ok || !resource.IsDNSLabel(namespace) || !resource.IsName(name) {
		return apistatus.New(apistatus.BadRequest, "the repository is missing: POST %s?repository=NAMESPACE/NAME", WebhookPath)
	}
	if s.webhooks == nil {
		return apistatus.New(apistatus.NotFound, "this daemon takes no calls of Git servers")
	}
	tooLarge := apistatus.New(apistatus.RequestEntityTooLarge, "a call has at most %d bytes", maxWebhookBytes)
	if r.ContentLength > maxWebhookBytes {
		return tooLarge
	}
	body := &readErrors{Reader: http.MaxBytesReader(w, r.Body, maxWebhookBytes)}
	accepted, err := s.webhooks.Deliver(r.Context(), namespace, name, r.Header, body)
	var over *http.MaxBytesError
	switch {
	case errors.As(body.err, &over):
		return tooLarge
	case body.err != nil:
		return apistatus.New(apistatus.BadRequest, "the body could not be read to its end")
	}
	switch {
	case err != nil:
		return err
	case !accepted:
		return apistatus.New(apistatus.Forbidden, "the call is not signed with the secret of a webhook of that repository")
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// readErrors remembers why a body could not be read.
type readErrors struct {
	io.Reader
	err error
}

func (r *readErrors) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
