package firewall

import (
	"regexp"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// Env is where a rule stands, which decides what it may say.
type Env string

// The environments of rules.
const (
	EnvCluster Env = "cluster"
	EnvHost    Env = "host"
	EnvGuest   Env = "ct"
	EnvGroup   Env = "group"
	EnvVNet    Env = "vnet"
)

// directions are the rule types of each environment.
var directions = map[Env][]string{
	EnvGuest: {"in", "out", "group"}, EnvGroup: {"in", "out", "forward"}, EnvVNet: {"forward", "group"},
	EnvCluster: {"in", "out", "forward", "group"}, EnvHost: {"in", "out", "forward", "group"},
}

// RuleKeys are the properties of a rule that a request may set.
var RuleKeys = []string{"type", "action", "macro", "iface", "source", "dest", "proto", "enable", "log", "sport", "dport", "comment", "icmp-type"}

// Set copies what a request says into a rule; an empty value and - remove a property.
func (r Rule) Set(params map[string]string) {
	for _, key := range RuleKeys {
		v, ok := params[key]
		switch {
		case !ok:
		case v == "" || v == "-":
			delete(r, key)
		default:
			r[key] = v
		}
	}
}

// Unset removes properties of a rule.
func (r Rule) Unset(keys []string) error {
	for _, key := range keys {
		switch {
		case !slices.Contains(RuleKeys, key) && key != "pos" && key != "digest":
			return refuse("delete", "no such property ('%s')", key)
		case key == "type" || key == "action":
			return refuse("delete", "unable to delete required property '%s'", key)
		}
		delete(r, key)
	}
	return nil
}

var (
	groupNameRE  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9\-_]+$`)
	guestIfaceRE = regexp.MustCompile(`^net\d+$`)
	setRefRE     = regexp.MustCompile(`^\+(?:guest/|dc/|sdn/)?([A-Za-z][A-Za-z0-9\-_]+)$`)
)

// withPorts are the protocols that have ports.
var withPorts = []string{"udp", "17", "udplite", "136", "tcp", "6", "dccp", "33", "sctp", "132"}

func isICMP(proto string) bool {
	return slices.Contains([]string{"icmp", "icmpv6", "ipv6-icmp", "1", "58"}, proto)
}

// Verify checks a rule against its environment and what it refers to, with the first
// refusal that the real server finds (PVE::Firewall, verify_rule). It corrects the
// spelling of a macro.
func Verify(r Rule, env Env, own, datacenter *Scope) error {
	if err := verifyKind(r, env); err != nil {
		return err
	}
	if err := verifyIface(r, env); err != nil {
		return err
	}
	if m, given := r["macro"]; given {
		macro, ok := Macros[strings.ToLower(m)]
		if !ok {
			return refuse("macro", "unknown macro '%s'", m)
		}
		r["macro"] = macro.Name
	}
	if err := verifyPorts(r); err != nil {
		return err
	}
	family := IPVersion(r, own, datacenter)
	for _, key := range []string{"source", "dest"} {
		if v := r[key]; v != "" {
			if err := verifyReference(key, v, own, datacenter); err != nil {
				return err
			}
			if f := familyOf(v, own, datacenter); f != 0 && family != 0 && f != family {
				return refuse(key, "detected mixed ipv4/ipv6 addresses in rule")
			}
		}
	}
	return verifyMacro(r)
}

func verifyKind(r Rule, env Env) error {
	kind, action := r["type"], r["action"]
	switch {
	case kind == "":
		return refuse("type", "missing property")
	case action == "":
		return refuse("action", "missing property")
	case !slices.Contains(directions[env], kind):
		return refuse("type", "invalid rule type '%s' for rule_env '%s'", kind, env)
	case kind == "forward" && action == "REJECT":
		return refuse("action", "cannot define REJECT rules on forward chain")
	case kind != "group" && action != "ACCEPT" && action != "DROP" && action != "REJECT":
		return refuse("action", "unknown action '%s'", action)
	case kind == "group" && !groupNameRE.MatchString(action):
		return refuse("action", "invalid characters in security group name")
	}
	return nil
}

func verifyIface(r Rule, env Env) error {
	iface := r["iface"]
	switch {
	case iface == "":
	case env == EnvGroup || env == EnvVNet:
		return refuse("type", "parameter -i not allowed for this rule type")
	case pveschema.CheckFormat("pve-iface", iface) != "":
		return refuse("iface", "%s", pveschema.CheckFormat("pve-iface", iface))
	case env == EnvGuest && !guestIfaceRE.MatchString(iface):
		return refuse("iface", "value does not match the regex pattern 'net\\d+'")
	}
	return nil
}

func verifyPorts(r Rule) error {
	proto, icmpType := r["proto"], r["icmp-type"]
	icmp := isICMP(proto)
	if d := r["dport"]; d != "" {
		switch {
		case pveschema.CheckPorts(d, icmp) != "":
			return refuse("dport", "%s", pveschema.CheckPorts(d, icmp))
		case proto == "":
			return refuse("proto", "missing property - 'dport' requires this property")
		case !slices.Contains(withPorts, proto) && !icmp:
			return refuse("dport", "protocol '%s' does not support ports", proto)
		}
	}
	switch {
	case icmpType == "":
	case !icmp:
		return refuse("proto", "missing property - 'icmp-type' requires this property")
	case r["dport"] != "":
		return refuse("icmp-type", "'icmp-type' cannot be specified together with 'dport'")
	case proto == "icmp" && !slices.Contains(pveschema.ICMPTypes, icmpType),
		(proto == "icmpv6" || proto == "ipv6-icmp") && !slices.Contains(pveschema.ICMPv6Types, icmpType):
		return refuse("icmp-type", "invalid icmp-type '%s' for proto '%s'", icmpType, proto)
	}
	if s := r["sport"]; s != "" {
		switch {
		case pveschema.CheckPorts(s, false) != "":
			return refuse("sport", "%s", pveschema.CheckPorts(s, false))
		case proto == "":
			return refuse("proto", "missing property - 'sport' requires this property")
		case !slices.Contains(withPorts, proto):
			return refuse("sport", "protocol '%s' does not support ports", proto)
		}
	}
	return nil
}

// verifyReference demands that a set or an alias exists.
func verifyReference(key, value string, own, datacenter *Scope) error {
	if strings.HasPrefix(value, "+") {
		m := setRefRE.FindStringSubmatch(value)
		if m == nil {
			return refuse(key, "invalid ipset name '%s'", value)
		}
		if own.IPSets[m[1]] == nil && datacenter.IPSets[m[1]] == nil {
			return refuse(key, "no such ipset '%s'", m[1])
		}
		return nil
	}
	if msg := pveschema.CheckAddressList(value); msg != "" {
		return refuse(key, "%s", msg)
	}
	if pveschema.IsAlias(value) && familyOf(value, own, datacenter) == 0 {
		return refuse(key, "no such alias '%s'", value)
	}
	return nil
}

// familyOf is 4 or 6 for addresses and aliases, 0 for what has none.
func familyOf(value string, own, datacenter *Scope) int {
	if strings.HasPrefix(value, "+") {
		return 0
	}
	if !pveschema.IsAlias(value) {
		return pveschema.AddressFamily(value)
	}
	if a, ok := lookupAlias(value, own, datacenter); ok {
		return pveschema.AddressFamily(a.CIDR)
	}
	return 0
}

// lookupAlias finds an alias: guest/name in the own scope, dc/name in the datacenter's,
// a bare name in both.
func lookupAlias(ref string, own, datacenter *Scope) (Alias, bool) {
	where, name, scoped := strings.Cut(ref, "/")
	if !scoped {
		where, name = "", ref
	}
	name = strings.ToLower(name)
	if where != "dc" {
		if a, ok := own.Aliases[name]; ok {
			return a, true
		}
	}
	if where != "guest" {
		a, ok := datacenter.Aliases[name]
		return a, ok
	}
	return Alias{}, false
}

// IPVersion is the address family that a rule is about, 0 for both.
func IPVersion(r Rule, own, datacenter *Scope) int {
	switch r["proto"] {
	case "icmp":
		return 4
	case "icmpv6", "ipv6-icmp":
		return 6
	}
	for _, key := range []string{"source", "dest"} {
		if v := r[key]; v != "" {
			if f := familyOf(v, own, datacenter); f != 0 {
				return f
			}
		}
	}
	return 0
}

// verifyMacro refuses what contradicts a macro or what it needs and does not get.
func verifyMacro(r Rule) error {
	macro, ok := Macros[strings.ToLower(r["macro"])]
	if !ok {
		return nil
	}
	for _, t := range macro.Templates {
		used := map[string]bool{}
		for key, v := range t {
			param := map[string]string{"PARAM": key, "DEST": "dest", "SOURCE": "source"}[v]
			if param == "" {
				continue
			}
			used[param] = true
			if r[param] == "" {
				return refuse("macro", "missing parameter '%s' in macro '%s'", key, macro.Name)
			}
		}
		for _, key := range RuleKeys {
			if v, fixed := t[key]; fixed && r[key] != "" && !used[key] && v != r[key] {
				return refuse(key, "parameter '%s' already define in macro (value = '%s')", key, v)
			}
		}
	}
	return nil
}

// HasAlias reports whether a reference leads to an alias.
func HasAlias(ref string, own, datacenter *Scope) bool {
	_, ok := lookupAlias(ref, own, datacenter)
	return ok
}

// CleanCIDR drops the prefix of a single host, as the real server stores it.
func CleanCIDR(s string) string {
	if strings.Contains(s, ":") {
		return strings.TrimSuffix(s, "/128")
	}
	return strings.TrimSuffix(s, "/32")
}
