package appliance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// A Caddy with our module (cmd/proximity-caddy) has the Vhosts as data: its configuration is
// the same whatever they are, and a table beside it is followed by the proxy itself. A stock
// Caddy has all of them in its configuration. Both are rendered, because only the guest knows
// which Caddy it has; the agent takes what fits.

// tableModule is the name of the module's app, handler and permission.
const tableModule = "proximity_vhosts"

// tableHeader is the first line of the table.
type tableHeader struct {
	Entries int    `json:"entries"`
	Version string `json:"version"`
	Check   string `json:"check"`
}

// tableLine is a Vhost in the table: with the routes that a stock Caddy gets for it.
type tableLine struct {
	ID    string   `json:"id"`
	Hosts []string `json:"hosts"`
	HTTP  []object `json:"http"`
	HTTPS []object `json:"https,omitempty"`
	TLS   bool     `json:"tls,omitempty"` // certificates may be had on demand
}

// renderTable makes the table, and its version: a hash of its lines, which the proxy repeats
// to who asks for it.
func renderTable(a *accepted) (table []byte, version string, err error) {
	var lines bytes.Buffer
	to := json.NewEncoder(&lines) // ends each with a newline
	for _, v := range a.vhosts {
		line := tableLine{ID: v.Key, Hosts: v.Hosts, TLS: v.TLS.Mode == TLSInternal}
		line.HTTP, line.HTTPS = a.schemes(v, dialectTable)
		if err := to.Encode(line); err != nil {
			return nil, "", fmt.Errorf("vhost %s: %w", v.Key, err)
		}
	}
	version = contentHash(lines.Bytes())[:2*proofBytes]
	first, err := json.Marshal(tableHeader{Entries: len(a.vhosts), Version: version, Check: TableCheckHost})
	if err != nil {
		return nil, "", fmt.Errorf("table of vhosts: %w", err)
	}
	return slices.Concat(first, []byte("\n"), lines.Bytes()), version, nil
}

// proxyConfig is the configuration of a Caddy that has the table.
func proxyConfig(a *accepted, proof string) object {
	vhosts := object{"handle": []object{{"handler": tableModule}}}
	config := caddyBase(a, []object{proofRoute(proof), vhosts}, []object{vhosts}, tableTLS(a))
	config["apps"].(object)[tableModule] = object{"file": TablePath}
	return config
}

// tableTLS: certificates by ACME are had for the names that say so, as in a stock Caddy, so
// that a name that cannot have one is told before somebody asks for it, and provided ones are
// there. All others come from the internal CA when they are first asked for, if the table has
// the name.
func tableTLS(a *accepted) object {
	app := tlsApp(a, slices.DeleteFunc(slices.Clone(a.vhosts), func(v acceptedVhost) bool { return v.TLS.Mode == TLSInternal }), dialectTable)
	automation, ok := app["automation"].(object)
	if !ok {
		automation = object{"policies": []object(nil)}
		app["automation"] = automation
	}
	automation["policies"] = append(automation["policies"].([]object), object{"on_demand": true, "issuers": []object{{"module": "internal"}}})
	automation["on_demand"] = object{"permission": object{"module": tableModule}}
	return app
}
