package pvesim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// call is one request to a handler, authenticated and validated.
type call struct {
	node   *Node // that the path names, else the one that was asked
	ctx    context.Context
	who    identity
	params map[string]string
	given  map[string]pveschema.Value // the same with the lists of array parameters
	schema *pveschema.Method
}

// array is an array parameter.
func (c *call) array(name string) []string { return c.given[name].Items }

// has reports whether a parameter was given.
func (c *call) has(name string) bool {
	_, ok := c.params[name]
	return ok
}

// flag reads a boolean parameter.
func (c *call) flag(name string) bool { return c.params[name] == "1" }

// number reads an integer parameter, which validation has checked.
func (c *call) number(name string, missing int) int {
	s, ok := c.params[name]
	if !ok {
		return missing
	}
	var n int
	_, _ = fmt.Sscanf(s, "%d", &n)
	return n
}

// vmid is the {vmid} of the path.
func (c *call) vmid() int { return c.number("vmid", 0) }

// handle does everything from the request line to the handler's result.
func (x *exchange) handle() (result, error) {
	r := x.r
	switch r.Method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete:
	default:
		return result{}, transportError(http.StatusNotImplemented, fmt.Sprintf("method '%s' not available", r.Method))
	}
	if len(r.TransferEncoding) > 0 {
		return result{}, transportError(http.StatusNotImplemented, "chunked transfer encoding not supported")
	}
	format, path, err := splitFormat(r.URL)
	if err != nil {
		return result{}, err
	}
	who, err := x.node.authenticate(r, path)
	if err != nil {
		return result{}, err
	}
	switch format {
	case "json":
	case "extjs":
		x.extjs = true
	default:
		return result{}, transportError(http.StatusNotImplemented, fmt.Sprintf("no formatter for uri %s, %s", path, format))
	}
	var params map[string]pveschema.Value
	if isUpload(r, path) {
		params, err = x.node.readUpload(r)
	} else {
		params, err = readParams(r)
	}
	if err != nil {
		return result{}, err
	}
	route, captured := x.node.routes.find(r.Method, r.URL.EscapedPath()[len("/api2/"+format):])
	if route == nil || !x.node.cfg.Version.knows(r.Method, route.path) {
		return result{}, notImplemented(r.Method, path)
	}
	x.node.stats.request(r.Method, route.path)
	for name, value := range captured {
		if !route.schema.Routes(name, value) {
			return result{}, notImplemented(r.Method, path)
		}
		if given, ok := params[name]; ok && (given.Array || given.Text != value) {
			return result{}, paramError(name, "duplicate parameter (already defined in URI) with conflicting values!")
		}
		params[name] = pveschema.Value{Text: value}
	}
	if route.schema.NeedsTicket && strings.Contains(who.id, "!") { // HTTPServer.pm, rest_handler
		return result{}, permError("URI '" + path + "' not available with API token, need proper ticket.")
	}
	return x.node.invoke(r.Context(), who, route, params)
}

// invoke checks permissions, node and parameters in the real server's order and calls
// the handler.
func (n *Node) invoke(ctx context.Context, who identity, route *route, params map[string]pveschema.Value) (result, error) {
	c := &call{node: n, ctx: ctx, who: who, params: map[string]string{}, schema: route.schema}
	params = route.schema.Normalize(params)
	for name, v := range params {
		c.params[name] = v.Text
	}
	c.given = params
	if err := c.checkPermissions(route.schema.Permissions); err != nil {
		return result{}, err
	}
	if name, ok := c.params["node"]; ok {
		to, err := n.hop(name)
		if err != nil {
			return result{}, err
		}
		c.node, c.params["node"] = to, to.name
	}
	if errs := route.schema.Check(params); errs != nil {
		return result{}, paramErrors(errs)
	}
	if errs := n.cfg.Version.unknownParams(c.params); errs != nil {
		return result{}, paramErrors(errs)
	}
	free := c.node.work(ctx, route.schema.Method, route.path)
	if free == nil {
		return result{}, ctx.Err()
	}
	defer free()
	return route.handler(c)
}

// splitFormat takes /api2/json/nodes apart.
func splitFormat(u *url.URL) (format, path string, err error) {
	rest, ok := strings.CutPrefix(u.Path, "/api2/")
	if !ok {
		return "", "", transportError(http.StatusNotFound, fmt.Sprintf("no such file '%s'", u.Path))
	}
	format, path, _ = strings.Cut(rest, "/")
	return format, "/" + path, nil
}

// readParams merges body and query; the query wins. A body of another kind than the
// real server takes is refused as it refuses it.
func readParams(r *http.Request) (map[string]pveschema.Value, error) {
	params := map[string]pveschema.Value{}
	if r.ContentLength > 0 {
		if r.Method == http.MethodGet || r.Method == http.MethodDelete {
			return nil, transportError(http.StatusNotImplemented, fmt.Sprintf("Unexpected content for method '%s'", r.Method))
		}
		if r.ContentLength > maxBodyBytes {
			return nil, transportError(http.StatusNotImplemented, "for data too large")
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBodyBytes))
		if err != nil {
			return nil, transportError(http.StatusBadRequest, "error reading the body")
		}
		if err := decodeBody(params, r.Header.Get("Content-Type"), body); err != nil {
			return nil, err
		}
	}
	decodeForm(params, r.URL.RawQuery)
	return params, nil
}

func decodeBody(params map[string]pveschema.Value, contentType string, body []byte) error {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && contentType != "" {
		media = contentType
	}
	switch media {
	case "", "application/x-www-form-urlencoded":
		decodeForm(params, string(body))
		return nil
	case "application/json":
		return decodeJSON(params, body)
	default:
		return transportError(http.StatusHTTPVersionNotSupported+1, fmt.Sprintf("upload 'Content-Type '%s' not implemented", media))
	}
}

// decodeForm reads a form as pveproxy does: pairs end at & and ;, what follows a second
// raw = is lost, a repeated key makes an array, _dc (a cache buster) is dropped.
func decodeForm(params map[string]pveschema.Value, form string) {
	given := map[string]bool{}
	for _, pair := range strings.FieldsFunc(form, func(r rune) bool { return r == '&' || r == ';' }) {
		parts := strings.SplitN(pair, "=", 3)
		key, err := url.QueryUnescape(parts[0])
		if err != nil || key == "" || key == "_dc" {
			continue
		}
		value := ""
		if len(parts) > 1 {
			if value, err = url.QueryUnescape(parts[1]); err != nil {
				value = parts[1]
			}
		}
		items := append(params[key].Items, value)
		params[key] = pveschema.Value{Text: value, Array: given[key], Items: items}
		given[key] = true
	}
}

// decodeJSON reads an object of scalars and lists; numbers and booleans become the text
// that a form would carry, null is as if the key were absent.
func decodeJSON(params map[string]pveschema.Value, body []byte) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return die("malformed JSON string, neither tag, array, object, number, string or atom, at character offset %d", dec.InputOffset())
	}
	obj, ok := v.(map[string]any)
	if !ok {
		return die("Not a HASH reference")
	}
	for key, value := range obj {
		switch v := value.(type) {
		case nil:
		case string:
			params[key] = pveschema.Value{Text: v}
		case bool, json.Number:
			params[key] = pveschema.Value{Text: scalarText(v)}
		case []any:
			params[key] = arrayValue(v)
		default:
			params[key] = pveschema.Value{Object: true}
		}
	}
	return nil
}

// arrayValue keeps the scalars of a JSON list; anything else in it becomes "".
func arrayValue(list []any) pveschema.Value {
	v := pveschema.Value{Array: true}
	for _, item := range list {
		v.Items = append(v.Items, scalarText(item))
	}
	return v
}

// scalarText is the text that a form would carry.
func scalarText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.Itoa(number(v))
	case json.Number:
		return v.String()
	}
	return ""
}
