package server

import (
	"bytes"
	"context"
	"net/http"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

const (
	kindSecret = "Secret"
	// subresourceValues are the values of a Secret.
	subresourceValues = "values"
)

// ReadSecret is the only way on which the value of a Secret leaves the daemon through the API.
func (s *resourceService) ReadSecret(ctx context.Context, req *v1alpha1.ReadSecretRequest) (*v1alpha1.ReadSecretResponse, error) {
	key := resource.Key{Kind: kindSecret, Namespace: req.GetNamespace(), Name: req.GetName()}
	if err := authorize(ctx, auth.VerbSecretsRead, key.Kind, key.Namespace); err != nil {
		return nil, apistatus.About(key, err)
	}
	if err := s.core.key(key); err != nil {
		return nil, err
	}
	secrets, ok := s.core.applier.(Secrets)
	if !ok || s.gate.trail == nil {
		return nil, apistatus.New(apistatus.MethodNotAllowed, "this daemon shows no values of Secrets")
	}
	values, err := secrets.Reveal(ctx, key)
	e := audit.Event{Type: audit.EventSecretsRead, Origin: *audit.OriginFrom(ctx), Verb: string(auth.VerbSecretsRead),
		Kind: key.Kind, Namespace: key.Namespace, Name: key.Name, Result: audit.ResultOK}
	if err != nil {
		e.Result = audit.ResultFailed
	}
	// Nothing is shown that the trail does not have.
	if recorded := s.gate.trail.Record(e); recorded != nil {
		return nil, recorded
	}
	if err != nil {
		return nil, apistatus.About(key, err)
	}
	return &v1alpha1.ReadSecretResponse{Values: values}, nil
}

// Rekey changes the key of sealed values.
func (s *adminService) Rekey(ctx context.Context, req *v1alpha1.RekeyRequest) (*v1alpha1.RekeyResponse, error) {
	if err := authorize(ctx, auth.VerbUpdate, auth.Database, ""); err != nil {
		return nil, err
	}
	if s.secrets == nil {
		return nil, apistatus.New(apistatus.MethodNotAllowed, "this daemon has no key of sealed values")
	}
	done, err := s.rekeys.take()
	if err != nil {
		return nil, err
	}
	defer done()
	n, err := s.secrets.Rekey(ctx, req.GetFinish())
	if err != nil {
		return nil, s.failed(ctx, "change the key of", err)
	}
	s.log.InfoContext(ctx, "the key of sealed values was changed", "values", n, "identity", auth.IdentityFrom(ctx).Name)
	return &v1alpha1.RekeyResponse{Values: int32(n)}, nil
}

// readSecret is ReadSecret for REST.
func (s *rest) readSecret(w http.ResponseWriter, r *http.Request, c call) error {
	resp, err := (&resourceService{core: s.core, gate: s.gate}).ReadSecret(r.Context(), &v1alpha1.ReadSecretRequest{Namespace: c.target.namespace, Name: c.target.name})
	return answerMessage(w, r, resp, err)
}

// rekey is Rekey for REST; the body is the request, as JSON.
func (s *rest) rekey(w http.ResponseWriter, r *http.Request, _ call) error {
	req := &v1alpha1.RekeyRequest{}
	b, err := s.readBody(w, r, typeJSON)
	if err != nil {
		return err
	}
	defer b.release()
	if text := bytes.TrimSpace(b.data); len(text) > 0 && protojson.Unmarshal(text, req) != nil {
		return apistatus.New(apistatus.BadRequest, `the body must be a JSON object: {"finish": true}, or empty`)
	}
	resp, err := s.admin.Rekey(r.Context(), req)
	return answerMessage(w, r, resp, err)
}

// answerMessage answers with a message that is no object.
func answerMessage(w http.ResponseWriter, r *http.Request, m proto.Message, err error) error {
	if err != nil {
		return err
	}
	answer, err := gatewayMarshaler{}.Marshal(m)
	if err != nil {
		return err
	}
	writeJSON(w, r, http.StatusOK, answer)
	return nil
}
