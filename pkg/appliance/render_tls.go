package appliance

import (
	"slices"
	"strings"
)

// tlsApp says which names get a certificate from whom. A policy without subjects would
// mean every name, so none is ever written without.
func tlsApp(vhosts []acceptedVhost) object {
	subjects := map[TLS][]string{} // by issuer
	var all []string
	for _, v := range vhosts {
		if v.tls.Mode == TLSOff {
			continue
		}
		issuer := v.tls
		issuer.Redirect = false
		subjects[issuer] = append(subjects[issuer], v.hosts...)
		all = append(all, v.hosts...)
	}
	if len(all) == 0 {
		return object{}
	}
	var policies []object
	for issuer, names := range subjects {
		slices.Sort(names)
		policies = append(policies, object{"subjects": names, "issuers": []object{issuerModule(issuer)}})
	}
	slices.SortFunc(policies, func(x, y object) int {
		return strings.Compare(x["subjects"].([]string)[0], y["subjects"].([]string)[0])
	})
	slices.Sort(all)
	return object{
		"certificates": object{"automate": all},
		"automation":   object{"policies": policies},
	}
}

func issuerModule(t TLS) object {
	if t.Mode == TLSInternal {
		return object{"module": "internal"}
	}
	issuer := object{
		"module":     "acme",
		"challenges": object{"tls-alpn": object{"disabled": true}},
	}
	if t.ACMEDirectory != "" {
		issuer["ca"] = t.ACMEDirectory
	}
	if t.ACMEEmail != "" {
		issuer["email"] = t.ACMEEmail
	}
	return issuer
}
