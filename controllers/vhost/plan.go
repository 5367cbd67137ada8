package vhost

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Steps, all of them the appliance's: it serves all Vhosts from one configuration.
const (
	ActionServe    = "ServeVhost"
	ActionChange   = "ChangeVhost"
	ActionWithdraw = "WithdrawVhost"
)

// desired is what a Vhost asks of its appliance, with its backends resolved.
type desired struct {
	appliance string
	vhost     appliance.Vhost
	// conflict says which older Vhost has one of the host names, "" for none.
	conflict string
}

// observed is what an appliance serves of a Vhost.
type observed struct {
	appliance string
	vhost     *appliance.Vhost // nil: nothing; also one that was refused
	// unsettled: what is live is not what the appliance is to serve.
	unsettled bool
	// refused says why the Vhost, as it was then, was left out; "" when it was not.
	refused string
}

// plan lists the steps from observed to desired; nil desired is deletion. It does no I/O
// and reads no clock.
func plan(d *desired, o observed) ([]runtime.Step, *runtime.Blocked) {
	step := func(applianceName, action, format string, args ...any) []runtime.Step {
		return []runtime.Step{{Action: action, Effect: runtime.InPlace, By: "Appliance " + applianceName, Text: fmt.Sprintf(format, args...)}}
	}
	switch {
	case d == nil && o.vhost == nil:
		return nil, nil
	case d == nil:
		return step(o.appliance, ActionWithdraw, "stop serving %s", names(*o.vhost)), nil
	case d.conflict != "":
		return nil, &runtime.Blocked{Reason: "Conflict", Text: d.conflict}
	case o.refused != "" && o.appliance == d.appliance && o.vhost != nil && reflect.DeepEqual(*o.vhost, d.vhost):
		return nil, &runtime.Blocked{Reason: "Refused", Text: "the proxy's configuration leaves this Vhost out: " + o.refused}
	case o.vhost == nil || o.appliance != d.appliance:
		return step(d.appliance, ActionServe, "serve %s from %s", names(d.vhost), backends(d.vhost)), nil
	case o.unsettled || o.refused != "" || !reflect.DeepEqual(*o.vhost, d.vhost):
		return step(d.appliance, ActionChange, "serve %s from %s", names(d.vhost), backends(d.vhost)), nil
	}
	return nil, nil
}

// maxNamed bounds the names and backends of a sentence.
const maxNamed = 5

func names(v appliance.Vhost) string { return listed(v.Hosts) }

// backends are the addresses behind a Vhost in words.
func backends(v appliance.Vhost) string {
	var all []string
	for _, r := range v.Rules {
		if r.ManagementUI {
			return "the management UI of the appliance"
		}
		for _, b := range r.Backends {
			if !slices.Contains(all, b.Address) {
				all = append(all, b.Address)
			}
		}
	}
	if len(all) == 0 {
		return "its backends, as soon as one has an address"
	}
	return listed(all)
}

func listed(all []string) string {
	if len(all) > maxNamed {
		return strings.Join(all[:maxNamed], ", ") + fmt.Sprintf(" and %d more", len(all)-maxNamed)
	}
	return strings.Join(all, ", ")
}

// see reads what an appliance serves of a Vhost.
func see(st *live.State, name, key string) observed {
	o := observed{appliance: name}
	if st == nil {
		return o
	}
	o.unsettled = !st.InSync
	if v, ok := st.Vhost(key); ok {
		o.vhost = &v
	}
	o.refused = st.Rejected[live.RejectedKey("vhost", key)].Reason
	return o
}

// conflict says which older Vhost on the same appliance has a host name of v, "" for none.
func conflict(v *v1alpha1.Vhost, all []*v1alpha1.Vhost, index map[string]*v1alpha1.App, appliances []*v1alpha1.Appliance) string {
	mine := routing.VhostAppliance(v, index, appliances)
	same := slices.DeleteFunc(slices.Clone(all), func(o *v1alpha1.Vhost) bool {
		return routing.VhostAppliance(o, index, appliances) != mine
	})
	claim, lost := routing.Conflict(v, same)
	if !lost {
		return ""
	}
	return fmt.Sprintf("host name %s belongs to Vhost %s, which is older; use another name or delete that Vhost", claim.Host, claim.By)
}

// world is what the plans of one request share.
type world struct {
	appliances []*v1alpha1.Appliance
	vhosts     []*v1alpha1.Vhost
	apps       map[string]*v1alpha1.App
	// byHost are the Vhosts that claim a host name, in lower case.
	byHost map[string][]*v1alpha1.Vhost
}

func readWorld(ctx context.Context, c runtime.Client) (world, error) {
	w := world{byHost: map[string][]*v1alpha1.Vhost{}}
	var err error
	if w.appliances, err = runtime.List[*v1alpha1.Appliance](ctx, c, "Appliance", ""); err != nil {
		return w, err
	}
	apps, err := runtime.List[*v1alpha1.App](ctx, c, "App", "")
	if err != nil {
		return w, err
	}
	w.apps = routing.IndexApps(apps)
	if w.vhosts, err = runtime.List[*v1alpha1.Vhost](ctx, c, kind, ""); err != nil {
		return w, err
	}
	for _, v := range w.vhosts {
		for _, h := range v.GetSpec().GetHosts() {
			w.byHost[strings.ToLower(h)] = append(w.byHost[strings.ToLower(h)], v)
		}
	}
	return w, nil
}

// rivals are the Vhosts that share a host name with v.
func (w world) rivals(v *v1alpha1.Vhost) []*v1alpha1.Vhost {
	var out []*v1alpha1.Vhost
	for _, h := range v.GetSpec().GetHosts() {
		out = append(out, w.byHost[strings.ToLower(h)]...)
	}
	return out
}

// Plan implements runtime's Options.Plan.
func (r *reconciler) Plan(ctx context.Context, p runtime.Planning[*v1alpha1.Vhost]) (runtime.Plan, error) {
	o, _ := p.Seen.(observed)
	if p.Deleted {
		steps, blocked := plan(nil, o)
		return runtime.Plan{Steps: steps, Blocked: blocked}, nil
	}
	made, err := p.Once("vhost world", func() (any, error) { return readWorld(ctx, p.Client) })
	if err != nil {
		return runtime.Plan{}, err
	}
	w := made.(world)
	a, err := chooseAppliance(p.Object, w.apps, w.appliances)
	if err != nil {
		return runtime.Plan{}, err
	}
	opened, err := r.Credentials.Vhost(ctx, p.Client, p.Object)
	if err != nil {
		return runtime.Plan{}, err
	}
	steps, blocked := plan(&desired{
		appliance: a.GetMetadata().GetName(), vhost: routing.Render(p.Object, w.apps, a, opened),
		conflict: conflict(p.Object, w.rivals(p.Object), w.apps, w.appliances),
	}, o)
	_, notes := routing.Backends(p.Object, w.apps, a)
	if opened.Missing != "" {
		notes = append(notes, opened.Missing)
	}
	return runtime.Plan{Steps: steps, Blocked: blocked, Notes: notes}, nil
}

// chooseAppliance finds the appliance that serves a Vhost.
func chooseAppliance(v *v1alpha1.Vhost, index map[string]*v1alpha1.App, all []*v1alpha1.Appliance) (*v1alpha1.Appliance, error) {
	name := routing.VhostAppliance(v, index, all)
	for _, a := range all {
		if a.GetMetadata().GetName() == name {
			return a, nil
		}
	}
	if name == "" && len(all) > 1 {
		return nil, runtime.Stalled("ApplianceNotChosen", "there are %d appliances; name one in spec.applianceRef", len(all))
	}
	return nil, runtime.Waiting(common.DependencyRecheck, "ApplianceNotFound", "Appliance %s does not exist", name)
}
