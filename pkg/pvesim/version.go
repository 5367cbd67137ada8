package pvesim

import (
	"fmt"
	"strings"
)

// Version is which Proxmox VE a cluster claims to be, "9.1.4". Older ones lack endpoints
// and parameters, have other defaults, and say less in their errors. The zero value is the
// newest.
type Version string

// The known versions, by release.
var versions = []Version{"7.4.19", "8.4.14", pveVersion}

// ParseVersion finds a version by its release: 7.4, 8.4 or 9.1.
func ParseVersion(release string) (Version, error) {
	for _, v := range versions {
		if v.Release() == release || string(v) == release {
			return v, nil
		}
	}
	return "", fmt.Errorf("version %q is not simulated, only 7.4, 8.4 and 9.1 are", release)
}

// Release is the major and minor number.
func (v Version) Release() string {
	parts := strings.SplitN(string(v.orNewest()), ".", 3)
	return parts[0] + "." + parts[1]
}

func (v Version) orNewest() Version {
	if v == "" {
		return pveVersion
	}
	return v
}

// before reports whether the version is older than a release ("8.1"). Both have one digit
// each, so text compares right.
func (v Version) before(release string) bool { return v.Release() < release }

// since are the releases in which methods and parameters came, by path template or, below
// it, by name.
var sinceMethod = map[string]string{
	"GET /nodes/{node}/lxc/{vmid}/interfaces": "8.1",
	"GET /cluster/ha/rules":                   "9.0",
	"POST /cluster/ha/rules":                  "9.0",
	"GET /cluster/ha/rules/{rule}":            "9.0",
	"PUT /cluster/ha/rules/{rule}":            "9.0",
	"DELETE /cluster/ha/rules/{rule}":         "9.0",
	"POST /cluster/sdn/lock":                  "9.0",
	"DELETE /cluster/sdn/lock":                "9.0",
	"POST /cluster/sdn/rollback":              "9.0",
}

var sinceParam = map[string]string{"env": "9.1", "entrypoint": "9.1", "ha-managed": "9.1", "overrule-shutdown": "8.2"}

// knows reports whether the version has a method.
func (v Version) knows(method, path string) bool {
	since, ok := sinceMethod[method+" "+path]
	return !ok || !v.before(since)
}

// unknownParams refuses parameters that came later.
func (v Version) unknownParams(names map[string]string) map[string]string {
	errs := map[string]string{}
	for name := range names {
		if since, ok := sinceParam[name]; ok && v.before(since) || strings.HasPrefix(name, "dev") && name != "dev" && v.before("8.1") {
			errs[name] = "property is not defined in schema and the schema does not allow additional properties"
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errs
}

// messages reports whether errors have their text in the body, too (8.3 and later).
func (v Version) messages() bool { return !v.before("8.3") }
