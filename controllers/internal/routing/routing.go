// Package routing decides which appliance serves what: the App or Vhost of which appliance,
// a Vhost's backends, and who keeps a host name that two Vhosts claim. It is pure, so that
// the controllers of appliances, Apps and Vhosts come to the same answer.
package routing

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/appliance"
)

// Key is the key of a namespaced object among an appliance's hosts and vhosts.
func Key(m *v1alpha1.ObjectMeta) string { return m.GetNamespace() + "/" + m.GetName() }

// ApplianceOf names the appliance that serves an App: the one it names, else the one that
// has served it so far, else the only one there is; "" when that is not decided. A second
// appliance changes nothing for Apps that run.
func ApplianceOf(app *v1alpha1.App, appliances []*v1alpha1.Appliance) string {
	if n := app.GetSpec().GetNetwork().GetApplianceRef().GetName(); n != "" {
		return n
	}
	return soFar(app.GetStatus().GetAppliance(), appliances)
}

// soFar is the appliance that was chosen before, as long as it exists, else the only one.
func soFar(chosen string, appliances []*v1alpha1.Appliance) string {
	for _, a := range appliances {
		if a.GetMetadata().GetName() == chosen {
			return chosen
		}
	}
	return only(appliances)
}

// VhostAppliance names the appliance that serves a Vhost: the one it names, else that of
// the first App behind it, else the one that has served it so far, else the only one there is.
func VhostAppliance(v *v1alpha1.Vhost, apps map[string]*v1alpha1.App, appliances []*v1alpha1.Appliance) string {
	if n := v.GetSpec().GetApplianceRef().GetName(); n != "" {
		return n
	}
	for _, key := range AppKeys(v) {
		if app := apps[key]; app != nil {
			if n := ApplianceOf(app, appliances); n != "" {
				return n
			}
		}
	}
	return soFar(v.GetStatus().GetAppliance(), appliances)
}

func only(appliances []*v1alpha1.Appliance) string {
	if len(appliances) == 1 {
		return appliances[0].GetMetadata().GetName()
	}
	return ""
}

// AppKeys lists the Apps behind a Vhost, each once, in order.
func AppKeys(v *v1alpha1.Vhost) []string {
	var keys []string
	for _, r := range v.GetSpec().GetRules() {
		for _, b := range r.GetBackends() {
			if n := b.GetAppRef().GetName(); n != "" {
				if key := v.GetMetadata().GetNamespace() + "/" + n; !slices.Contains(keys, key) {
					keys = append(keys, key)
				}
			}
		}
	}
	return keys
}

// IndexApps maps Apps by key.
func IndexApps(apps []*v1alpha1.App) map[string]*v1alpha1.App {
	m := make(map[string]*v1alpha1.App, len(apps))
	for _, a := range apps {
		m[Key(a.GetMetadata())] = a
	}
	return m
}

// Backends resolves a Vhost's rules to addresses, as the appliance that serves it does. Backends
// that cannot be resolved are left out and named in unresolved, each with its reason.
func Backends(v *v1alpha1.Vhost, apps map[string]*v1alpha1.App, a *v1alpha1.Appliance) (rules []appliance.Rule, unresolved []string) {
	for _, r := range v.GetSpec().GetRules() {
		rule := renderRule(r)
		for _, b := range r.GetBackends() {
			if b.GetManagementUi() {
				if rule.ManagementUI = hasUI(a); !rule.ManagementUI {
					unresolved = append(unresolved, fmt.Sprintf("Appliance %s has no management UI; set its spec.managementUI to Cockpit", a.GetMetadata().GetName()))
				}
				continue
			}
			addr, why := backendAddress(v, b, apps)
			if why != "" {
				unresolved = append(unresolved, why)
				continue
			}
			rule.Backends = append(rule.Backends, appliance.Backend{Address: addr, Weight: int(b.GetWeight())})
		}
		rules = append(rules, rule)
	}
	return rules, unresolved
}

// LeadsToUI tells whether a Vhost leads to the management UI of its appliance.
func LeadsToUI(v *v1alpha1.Vhost) bool {
	return slices.ContainsFunc(v.GetSpec().GetRules(), func(r *v1alpha1.VhostRule) bool {
		return slices.ContainsFunc(r.GetBackends(), (*v1alpha1.VhostBackend).GetManagementUi)
	})
}

func hasUI(a *v1alpha1.Appliance) bool { return a.GetSpec().GetManagementUi() == "Cockpit" }

func backendAddress(v *v1alpha1.Vhost, b *v1alpha1.VhostBackend, apps map[string]*v1alpha1.App) (addr, why string) {
	if a := b.GetAddress(); a != "" {
		return a, ""
	}
	name := b.GetAppRef().GetName()
	app := apps[v.GetMetadata().GetNamespace()+"/"+name]
	if app == nil {
		return "", fmt.Sprintf("App %s does not exist in namespace %s", name, v.GetMetadata().GetNamespace())
	}
	port, ok := Port(app, b.GetAppRef().GetPort())
	if !ok {
		return "", fmt.Sprintf("App %s has no port %q; declare it in spec.ports", name, b.GetAppRef().GetPort())
	}
	ip := app.GetStatus().GetAddress()
	if ip == "" {
		return "", fmt.Sprintf("App %s has no address yet", name)
	}
	return net.JoinHostPort(ip, strconv.Itoa(int(port))), ""
}

// Port finds an App's port by name or number; "" is its web port.
func Port(app *v1alpha1.App, want string) (int32, bool) {
	if want == "" {
		p := WebPort(app)
		return p, p != 0
	}
	for _, p := range app.GetSpec().GetPorts() {
		if p.GetName() == want {
			return p.GetPort(), true
		}
	}
	n, err := strconv.ParseUint(want, 10, 16)
	return int32(n), err == nil && n > 0
}

// WebPort is the port that serves an App's web page: the one that spec.webPort names, else
// the one named http, else the only one; 0 for none.
func WebPort(app *v1alpha1.App) int32 {
	ports := app.GetSpec().GetPorts()
	want := app.GetSpec().GetWebPort()
	if want == "" {
		want = "http"
		if len(ports) == 1 {
			want = ports[0].GetName()
		}
	}
	for _, p := range ports {
		if p.GetName() == want {
			return p.GetPort()
		}
	}
	return 0
}

// Older orders objects by age, for conflicts that the older one wins; names decide between
// objects of the same second.
func Older(a, b *v1alpha1.ObjectMeta) int {
	return cmp.Or(
		strings.Compare(a.GetCreationTimestamp(), b.GetCreationTimestamp()),
		strings.Compare(a.GetNamespace(), b.GetNamespace()),
		strings.Compare(a.GetName(), b.GetName()),
	)
}

// Claim is a host name that another, older Vhost on the same appliance has.
type Claim struct {
	Host string
	By   string // key of the older one
}

// Conflict returns the first host name of v that an older one of the others has. Vhosts
// that are being deleted claim nothing.
func Conflict(v *v1alpha1.Vhost, others []*v1alpha1.Vhost) (Claim, bool) {
	for _, host := range v.GetSpec().GetHosts() {
		for _, o := range others {
			if Key(o.GetMetadata()) == Key(v.GetMetadata()) || o.GetMetadata().GetDeletionTimestamp() != "" {
				continue
			}
			if goesBefore(o.GetMetadata(), v.GetMetadata()) && slices.ContainsFunc(o.GetSpec().GetHosts(), func(h string) bool { return strings.EqualFold(h, host) }) {
				return Claim{Host: host, By: Key(o.GetMetadata())}, true
			}
		}
	}
	return Claim{}, false
}

// Automatic is the annotation of a Vhost that an App got by itself; its value is of the one
// who made it.
const Automatic = "proximity/automatic"

// goesBefore tells whether a keeps a host name that both claim: the older one does, but one
// that came by itself gives way to those that somebody asked for.
func goesBefore(a, b *v1alpha1.ObjectMeta) bool {
	_, autoA := a.GetAnnotations()[Automatic]
	_, autoB := b.GetAnnotations()[Automatic]
	if autoA != autoB {
		return autoB
	}
	return Older(a, b) < 0
}

// HealthPort is the port and HTTP path that an App's health check asks; ok is false for an
// App without any. Without a path a TCP connection is enough.
func HealthPort(app *v1alpha1.App) (port int32, path string, ok bool) {
	hc := app.GetSpec().GetHealthCheck()
	if hc == nil {
		port = WebPort(app)
		return port, "", port != 0
	}
	port, ok = Port(app, hc.GetPort())
	return port, hc.GetPath(), ok
}
