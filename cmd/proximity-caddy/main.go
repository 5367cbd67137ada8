// Command proximity-caddy is the reverse proxy of the appliance: Caddy with its standard
// modules and two of ours, the table of virtual hosts and DNS challenges by RFC 2136, at the
// version that go.mod pins.
//
// It is a module of its own so that Caddy's dependencies stay out of Proximity's.
// hack/setup.sh builds it and packs it as the Debian package "caddy" of the
// embedded node's repository. On a real Proxmox VE node the appliance runs the same
// version, because other versions accept other configurations (2.6 refuses
// persist_config, for one).
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	// The standard modules register themselves: HTTP server, TLS, internal CA, admin API.
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/proximity-pve/proximity/cmd/proximity-caddy/rfc2136"
	_ "github.com/proximity-pve/proximity/cmd/proximity-caddy/vhosts"
)

func main() {
	caddycmd.Main()
}
