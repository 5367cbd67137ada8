package proxmox

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// request is one call of the API, before it is put on the wire.
type request struct {
	method string
	// template is the path with its parameters' names: for metrics.
	template string
	// path is the escaped path; text is the readable one, for errors.
	path, text string
	// node is whose gate the request passes; "" for the cluster's.
	node string
	// storage is where the task of the request allocates; "" is nowhere, or not known.
	storage string
	params  url.Values
	// anonymous requests carry no credentials.
	anonymous bool
}

// route fills a path template such as /nodes/{node}/lxc/{vmid} with args, in order.
// The number of args must fit: templates are constants, so a mismatch is a bug that any
// test of the endpoint meets.
func route(method, template string, args ...any) request {
	r := request{method: method, template: template, params: url.Values{}}
	var path, text strings.Builder
	for rest := template; ; {
		fixed, tail, found := strings.Cut(rest, "{")
		path.WriteString(fixed)
		text.WriteString(fixed)
		if !found {
			break
		}
		name, after, _ := strings.Cut(tail, "}")
		arg := fmt.Sprint(args[0])
		args = args[1:]
		if name == "node" {
			r.node = arg
		}
		path.WriteString(url.PathEscape(arg))
		text.WriteString(arg)
		rest = after
	}
	r.path, r.text = path.String(), text.String()
	return r
}

// write reports whether the request may change something.
func (r request) write() bool { return r.method != http.MethodGet }

// with adds a parameter; an empty value leaves it out, because the API has no null and
// takes an empty string for a value.
func (r request) with(key, value string) request {
	if value != "" {
		r.params.Set(key, value)
	}
	return r
}

// allocatingOn says that the request starts a task that allocates on a storage.
func (r request) allocatingOn(storage string) request {
	r.storage = storage
	return r
}

func (r request) withInt(key string, value int) request {
	if value != 0 {
		r.params.Set(key, strconv.Itoa(value))
	}
	return r
}

func (r request) withBool(key string, value bool) request {
	if value {
		r.params.Set(key, formatBool(value))
	}
	return r
}

func (r request) withList(key string, values []string) request {
	return r.with(key, strings.Join(values, ","))
}
