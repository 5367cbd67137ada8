package pveschema

import (
	"net/url"
	"strings"
)

// Match finds the method of a request among methods, as Load returns them, and what its
// path's parameters are. path is below /api2/json and not escaped. A literal part of a
// path goes before a parameter, and {volume} takes all that is left, since volume ids
// contain slashes. It is for tests of clients: the simulator routes by a tree.
func Match(methods map[string]*Method, method, path string) (*Method, map[string]string) {
	var best *Method
	var captured map[string]string
	literals := -1
	for _, m := range methods {
		if m.Method != method {
			continue
		}
		if got, n, ok := matchPath(m.Path, path); ok && n > literals {
			best, captured, literals = m, got, n
		}
	}
	return best, captured
}

// matchPath returns the parameters and how many parts of the template are literal.
func matchPath(template, path string) (captured map[string]string, literals int, ok bool) {
	want, have := strings.Split(template, "/"), strings.Split(path, "/")
	captured = map[string]string{}
	for i, part := range want {
		switch {
		case i >= len(have):
			return nil, 0, false
		case part == "{volume}":
			captured["volume"] = strings.Join(have[i:], "/")
			return captured, literals, true
		case strings.HasPrefix(part, "{"):
			captured[strings.Trim(part, "{}")] = have[i]
		case part != have[i]:
			return nil, 0, false
		default:
			literals++
		}
	}
	return captured, literals, len(want) == len(have)
}

// CheckRequest validates a whole request: known is false when methods has none for it.
func CheckRequest(methods map[string]*Method, method, path string, params url.Values) (errs Errors, known bool) {
	m, captured := Match(methods, method, path)
	if m == nil {
		return nil, false
	}
	values := map[string]Value{}
	for name, list := range params {
		values[name] = Value{Text: list[0]}
		if len(list) > 1 {
			values[name] = Value{Array: true, Items: list}
		}
	}
	for name, text := range captured {
		values[name] = Value{Text: text}
	}
	return m.Check(m.Normalize(values)), true
}
