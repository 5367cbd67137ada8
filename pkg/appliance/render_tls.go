package appliance

import (
	"slices"
	"strings"
)

// DNSProvider is the Caddy module of cmd/proximity-caddy that changes records by RFC 2136.
const DNSProvider = "proximity_rfc2136"

// tlsApp says which names get a certificate from whom. A policy without subjects would
// mean every name, so none is ever written without. A stock Caddy has no module for DNS
// challenges: there the internal CA takes their place.
func tlsApp(a *accepted, vhosts []acceptedVhost, d dialect) object {
	subjects := map[TLS][]string{} // by issuer
	var all []string
	var provided []object
	for _, v := range vhosts {
		issuer := v.TLS
		issuer.Redirect, issuer.Certificate, issuer.PrivateKey = false, "", ""
		switch {
		case v.TLS.Mode == TLSOff:
			continue
		case v.TLS.Mode == TLSProvided:
			provided = append(provided, object{"certificate": v.TLS.Certificate, "key": string(v.TLS.PrivateKey)})
			continue
		case v.TLS.ACMEDNS && d == dialectStock:
			issuer = TLS{Mode: TLSInternal}
		}
		subjects[issuer] = append(subjects[issuer], v.Hosts...)
		all = append(all, v.Hosts...)
	}
	app := object{}
	certificates := object{}
	if len(provided) > 0 {
		certificates["load_pem"] = provided
	}
	if len(all) > 0 {
		var policies []object
		for issuer, names := range subjects {
			slices.Sort(names)
			policies = append(policies, object{"subjects": names, "issuers": []object{issuerModule(a, issuer)}})
		}
		slices.SortFunc(policies, func(x, y object) int {
			return strings.Compare(x["subjects"].([]string)[0], y["subjects"].([]string)[0])
		})
		slices.Sort(all)
		certificates["automate"] = all
		app["automation"] = object{"policies": policies}
	}
	if len(certificates) > 0 {
		app["certificates"] = certificates
	}
	return app
}

func issuerModule(a *accepted, t TLS) object {
	if t.Mode == TLSInternal {
		return object{"module": "internal"}
	}
	challenges := object{"tls-alpn": object{"disabled": true}}
	if t.ACMEDNS {
		d := a.acmeDNS
		challenges["http"] = object{"disabled": true}
		challenges["dns"] = object{
			"provider": object{"name": DNSProvider, "server": d.Server, "key_name": d.KeyName, "algorithm": d.Algorithm, "key": string(d.Key)},
			// The server that took a change is the one that is asked for the zone. When it has
			// answered the record is there; others get it from it, which takes a moment.
			"resolvers": []string{d.Server}, "propagation_delay": "2s", "propagation_timeout": -1,
		}
	}
	issuer := object{"module": "acme", "challenges": challenges}
	if t.ACMEDirectory != "" {
		issuer["ca"] = t.ACMEDirectory
	}
	if t.ACMEEmail != "" {
		issuer["email"] = t.ACMEEmail
	}
	if a.acmeRoot != "" {
		issuer["trusted_roots_pem_files"] = []string{ACMERootPath}
	}
	return issuer
}
