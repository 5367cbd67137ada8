package controllers_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// An appliance of a family that has not run for real is made from a template of that family,
// serves, and says what is not tested of it. One of the default family has nothing to say.
func TestApplianceOnAlpine(t *testing.T) {
	inWorld(t, func(w *world) {
		w.must(os.WriteFile(filepath.Join(w.dir, "templates", "alpine-3.22-proximity_20250617_amd64.tar.xz"), nil, 0o600))
		w.start()
		w.apply(strings.Replace(w.quickstart(), "  vmid: 9999\n", "  vmid: 9999\n  os: alpine\n", 1))
		w.until("quickstart ready", w.ready(quickstartKeys...))
		if !w.has(applianceKey, "FamilyTested", "False", "Untested")() || !strings.Contains(w.message(applianceKey, "FamilyTested"), "not on Alpine itself") {
			t.Errorf("FamilyTested: %s", w.message(applianceKey, "FamilyTested"))
		}
		a := w.get(applianceKey).(*v1alpha1.Appliance)
		var names []string
		for _, s := range a.GetStatus().GetServices() {
			names = append(names, s.GetName())
		}
		if want := []string{"proximity-caddy", "proximity-dnsmasq", "proximity-nat"}; !slices.Equal(names, want) {
			t.Errorf("services %q, want %q", names, want)
		}
		if !w.guest(applianceID).FS().Exists("/etc/alpine-release") {
			t.Error("it is not made from a template of its family")
		}
	})
}

func TestApplianceOfTheDefaultFamily(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deployed()
		if c := resource.FindCondition(w.get(applianceKey), "FamilyTested"); c != nil {
			t.Errorf("FamilyTested: %s", c)
		}
	})
}
