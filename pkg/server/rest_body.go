package server

import (
	"compress/flate"
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

const (
	typeJSON  = "application/json"
	typeApply = "application/apply-patch+yaml"
)

// documentTypes are what objects may be written in; YAML is a superset of JSON.
var documentTypes = []string{typeJSON, "application/yaml", "application/x-yaml", "text/yaml"}

// body is a request's body in memory; release must be called when nothing refers to it
// any more.
type body struct {
	data []byte
	held *reservation
}

func (b *body) release() { b.held.release() }

// readBody reads the whole body, at most MaxBodyBytes of one of the content types, also
// when it came compressed by gzip. An empty body has no type to check.
func (s *rest) readBody(w http.ResponseWriter, r *http.Request, types ...string) (*body, error) {
	if r.ContentLength > MaxBodyBytes {
		return nil, errBodyTooLarge()
	}
	zipped := false
	switch coding := r.Header.Get("Content-Encoding"); coding {
	case "", "identity":
	case "gzip":
		zipped = true
	default:
		w.Header().Set("Accept-Encoding", "gzip") // RFC 9110, section 12.5.3
		return nil, apistatus.New(apistatus.UnsupportedMediaType, "content encoding %.40q is not supported: use gzip, or send the body as it is", coding)
	}
	size := r.ContentLength
	if size < 0 || zipped { // it could be as much as is allowed
		size = MaxBodyBytes
	}
	b := &body{held: s.gate.buffer.reserve()}
	if err := b.held.grow(size); err != nil {
		return nil, err
	}
	var err error
	b.data, err = readAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes), zipped)
	if err == nil && len(b.data) > 0 {
		err = checkType(r.Header.Get("Content-Type"), types)
	}
	if err != nil {
		b.release()
		return nil, bodyError(err)
	}
	return b, nil
}

// readAll reads a body. What a compressed one unpacks to is bounded, too: a few KB can be
// many GB.
func readAll(body io.Reader, zipped bool) ([]byte, error) {
	if !zipped {
		return io.ReadAll(body)
	}
	z, err := gzip.NewReader(body)
	if err != nil {
		return nil, notGzip(err)
	}
	data, err := io.ReadAll(io.LimitReader(z, MaxBodyBytes+1))
	switch {
	case err != nil:
		return nil, notGzip(err)
	case len(data) > MaxBodyBytes:
		return nil, errBodyTooLarge()
	}
	return data, nil
}

// notGzip tells a body that is none from one that never came.
func notGzip(err error) error {
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, new(flate.CorruptInputError)) {
		return apistatus.New(apistatus.BadRequest, "the body is said to be compressed by gzip, and is not, or is damaged")
	}
	return err
}

func errBodyTooLarge() error {
	return apistatus.New(apistatus.RequestEntityTooLarge,
		"the body has more than %d bytes; larger sets go through gRPC (ApplySet, at most %d bytes)", MaxBodyBytes, MaxApplyBytes)
}

// bodyError tells a body that is too large, or that never came, from other errors.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	var known *apistatus.Error
	switch {
	case errors.As(err, &tooLarge):
		return errBodyTooLarge()
	case errors.As(err, &known):
		return err
	}
	return apistatus.New(apistatus.BadRequest, "the body could not be read to its end")
}

// checkType checks the Content-Type header. A missing one is taken for the first type.
func checkType(header string, types []string) error {
	if header == "" {
		return nil
	}
	name, params, err := mime.ParseMediaType(header)
	charset := strings.ToLower(params["charset"])
	if err == nil && slices.Contains(types, name) && (charset == "" || charset == "utf-8") {
		return nil
	}
	return apistatus.New(apistatus.UnsupportedMediaType, "content type %.80q is not supported, supported are: %s (UTF-8)",
		header, strings.Join(types, ", "))
}
