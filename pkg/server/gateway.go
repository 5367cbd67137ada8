package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	gatewayv1alpha1 "github.com/proximity-pve/proximity/pkg/server/gateway/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/server/openapi"
)

// newGateway builds the translation of the platform's own routes to SystemService. It
// calls the service in the process: authentication happened in front of it, and
// authorisation happens in the core, once each.
func newGateway(system v1alpha1.SystemServiceServer) (http.Handler, error) {
	marshaler := &gatewayMarshaler{}
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, marshaler),
		runtime.WithErrorHandler(keepError),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		// Nothing of HTTP's headers reaches the service: the identity travels in the context.
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
	)
	if err := gatewayv1alpha1.RegisterSystemServiceHandlerServer(context.Background(), mux, system); err != nil {
		return nil, fmt.Errorf("register the system routes: %w", err)
	}
	return mux, nil
}

type gatewayErrorKey struct{}

// keepError hands a handler's error to systemRoute, which answers as every route does.
func keepError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, _ http.ResponseWriter, r *http.Request, err error) {
	if kept, ok := r.Context().Value(gatewayErrorKey{}).(*error); ok {
		*kept = err
	}
}

// systemRoute is the handler of one of the platform's own routes.
func (s *rest) systemRoute(route openapi.SystemRoute) handler {
	return func(w http.ResponseWriter, r *http.Request, _ call) error {
		for name := range r.URL.Query() {
			if !slices.Contains(route.Parameters(), name) {
				return resource.FieldErrors{{Path: fmt.Sprintf("%.80q", name), Reason: resource.ReasonUnknown,
					Allowed: fmt.Sprintf("the parameters %q", route.Parameters())}}
			}
		}
		b, err := s.readBody(w, r, typeJSON, "application/x-www-form-urlencoded")
		if err != nil {
			return err
		}
		defer b.release()
		if text := bytes.TrimSpace(b.data); len(text) > 0 && string(text) != "{}" {
			return apistatus.New(apistatus.BadRequest, "this route takes its arguments from the query, not from a body")
		}
		var failed error
		r = r.WithContext(context.WithValue(r.Context(), gatewayErrorKey{}, &failed))
		r.Body, r.ContentLength = http.NoBody, 0
		s.gateway.ServeHTTP(w, r)
		return failed
	}
}

// gatewayMarshaler writes kinds in their canonical JSON and other messages as plain
// protojson: camelCase, false and 0 written out, the same bytes for the same message.
type gatewayMarshaler struct{}

func (gatewayMarshaler) ContentType(any) string { return typeJSON }

func (gatewayMarshaler) Marshal(v any) ([]byte, error) {
	switch m := v.(type) {
	case resource.Object:
		return resource.EncodeJSON(m)
	case proto.Message:
		raw, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m) // "ready": false is an answer too
		if err != nil {
			return nil, fmt.Errorf("encode answer: %w", err)
		}
		var out bytes.Buffer
		if err := json.Compact(&out, raw); err != nil { // protojson varies its white space on purpose
			return nil, fmt.Errorf("encode answer: %w", err)
		}
		return out.Bytes(), nil
	}
	return nil, fmt.Errorf("encode answer: %T is no message", v)
}

var errNoBodies = errors.New("the system routes take no body")

func (gatewayMarshaler) Unmarshal([]byte, any) error { return errNoBodies }

func (gatewayMarshaler) NewDecoder(io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(any) error { return errNoBodies })
}

func (m gatewayMarshaler) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		data, err := m.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
}
