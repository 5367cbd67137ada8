package proxmox

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

// The envelope of an answer, whatever it is: a value or an error, never both or a panic, and
// an error's text is bounded and of one line.
func FuzzEnvelope(f *testing.F) {
	f.Add(200, "OK", []byte(`{"data":[{"id":"lxc/100","maxcpu":0.5,"mem":"1e+15","template":true}],"total":"7","changes":null}`))
	f.Add(200, "OK", []byte(`{"data":null}`))
	f.Add(200, "OK", []byte(`{"data":{"a":[[1],{}]},"errors":{"x":null}}`))
	f.Add(400, "Parameter verification failed.", []byte(`{"data":null,"message":"Parameter verification failed.\n","errors":{"net0.foo":"property is not defined\nx"}}`))
	f.Add(500, "CT is locked (backup)", []byte(`{"message":17}`))
	f.Add(403, "Permission check failed (/vms/100, VM.Allocate|VM.Config.Disk)", []byte("\xff\xfe"))
	f.Add(596, "", []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, reason string, body []byte) {
		var out []Resource
		env, err := decode(body, &out)
		if err == nil && env.Data == nil {
			t.Error("an answer without data is one")
		}
		if err == nil && !json.Valid(body) {
			t.Errorf("%q is no JSON", body)
		}
		if status < 100 || status > 999 || strings.ContainsAny(reason, "\r\n") {
			return
		}
		e := readError(response(status, reason, body), route(http.MethodPost, "/nodes/{node}/lxc", "pve"))
		text := e.Error()
		if len(text) > maxErrorText+3 || strings.ContainsAny(text, "\r\n") || !utf8.ValidString(text) && utf8.ValidString(reason) {
			t.Errorf("the text is %q", text)
		}
		var api *APIError
		if !errors.As(error(e), &api) || IsUnknownOutcome(e) && IsUnavailable(e) {
			t.Error("an error of two classes")
		}
		for _, is := range classifiers {
			is(e)
		}
		if path, privilege := MissingPrivilege(e); privilege != "" && path == "" && status != 403 {
			t.Errorf("%q on no path", privilege)
		}
		_, _ = LockName(e), NeedsRoot(e)
	})
}
