package server

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// rest is the REST form of core: one http.Handler for every path.
type rest struct {
	core    *core
	gate    *gate
	auth    *authService
	admin   *adminService
	metrics *metrics
	gateway http.Handler
	scrape  http.Handler
	ready   func() error
	version string
	openapi func() ([]byte, error) // made when somebody asks for it
	fixed   map[string]*route
	kinds   kindRoutes
	// webhooks is nil when nobody takes calls of Git servers.
	webhooks Webhooks
}

// ServeHTTP is what every request goes through: id, authentication, route, method, slot,
// handler, error, log.
func (s *rest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	ctx := withRequestID(r.Context(), r.Header.Get("X-Request-Id"))
	out := &recorder{ResponseWriter: w}
	header := out.Header()
	header.Set("X-Request-Id", requestID(ctx))
	secureHeaders(header)

	pattern, ctx, err := s.serve(out, r.WithContext(ctx))
	reason, begun := "OK", out.code != 0
	if err != nil {
		reason = s.fail(ctx, out, r, err)
	}
	s.metrics.observe(auth.REST, pattern, reason, time.Since(start))
	s.gate.log.DebugContext(ctx, "request", "request", requestID(ctx), "method", r.Method, "path", r.URL.Path,
		"identity", auth.IdentityFrom(ctx).Name, "remote", r.RemoteAddr,
		"code", out.code, "bytes", out.bytes, "result", reason, "duration", time.Since(start))
	if err != nil && begun {
		panic(http.ErrAbortHandler) // breaks the connection: nobody can take half an answer for a whole one
	}
}

// serve answers the request; it returns the route's pattern for the metrics and the
// context with the identity for the log.
func (s *rest) serve(w http.ResponseWriter, r *http.Request) (pattern string, ctx context.Context, err error) {
	method := r.Method
	if method == http.MethodHead { // net/http leaves the body of the answer out
		method = http.MethodGet
	}
	if err := sameSite(r); err != nil {
		return "cross-site", r.Context(), err
	}
	ctx, err = s.gate.authenticate(r.Context(), auth.REST, method+" "+r.URL.Path, r.RemoteAddr, r.Header.Values("Authorization"))
	if err != nil {
		return "unauthenticated", ctx, err
	}
	rt, call, err := s.resolve(r)
	if err != nil {
		return "none", ctx, err
	}
	handle := rt.methods[method]
	if handle == nil {
		w.Header().Set("Allow", strings.Join(rt.allowed(), ", "))
		return rt.pattern, ctx, apistatus.New(apistatus.MethodNotAllowed, "%.20s is not allowed here, allowed are: %s",
			r.Method, strings.Join(rt.allowed(), ", "))
	}
	pattern = method + " " + rt.pattern
	long, timeout := rt.long(r)
	admitted, done, err := s.gate.admit(ctx, long, timeout)
	if err != nil {
		return pattern, ctx, err
	}
	defer done()
	if long {
		// The server's times are for short requests; a long one ends by its context and by
		// the time that each write may take.
		clearDeadlines(w)
	}
	defer s.gate.recovered(ctx, &err)
	return pattern, ctx, handle(w, r.WithContext(admitted), call)
}

// clearDeadlines takes the server's read and write times off a request.
func clearDeadlines(w http.ResponseWriter) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // both are supported by net/http's own writers
	_ = rc.SetWriteDeadline(time.Time{})
}

// fail answers with the Status of err, unless the answer has begun.
func (s *rest) fail(ctx context.Context, w *recorder, r *http.Request, err error) string {
	st := s.gate.status(ctx, err)
	s.gate.noteRefusal(ctx, st, r.Method+" "+r.URL.Path)
	if w.code != 0 {
		return st.GetReason()
	}
	if st.GetReason() == apistatus.Unauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="proximity"`)
	}
	if after := st.GetDetails().GetRetryAfterSeconds(); after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(after)))
	}
	writeJSON(w, r, int(st.GetCode()), apistatus.JSON(st))
	return st.GetReason()
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	code  int
	bytes int64
}

func (w *recorder) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach net/http's writer.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
