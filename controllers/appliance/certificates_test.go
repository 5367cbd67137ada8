package appliance

import (
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
)

// A name whose certificate is not there yet is asked about soon, then ever more rarely; with all
// there, or none to come, once a minute.
func TestCertificatesAreLookedFor(t *testing.T) {
	in := appliance.Input{Vhosts: []appliance.Vhost{
		{Hosts: []string{"WWW.prox.test"}}, {Hosts: []string{"off.prox.test"}, TLS: appliance.TLS{Mode: appliance.TLSOff}},
		{Hosts: []string{"own.prox.test"}, TLS: appliance.TLS{Mode: appliance.TLSProvided}}, {Hosts: []string{"no.prox.test"}, Unready: "a Secret"},
	}}
	begin := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	looks := func(c certificates, config string, seconds int) (at []int) {
		for i := range seconds {
			now := begin.Add(time.Duration(i) * time.Second)
			if pause, due := c.due(in, config, now); due {
				c.looked, c.pause, c.config, c.root = now, pause, config, "root"
				at = append(at, i)
			}
		}
		return at
	}
	want := func(name string, got []int, want ...int) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%s: looked after %v, want %v", name, got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%s: looked after %v, want %v", name, got, want)
			}
		}
	}
	want("a new guest", looks(certificates{}, "a", 200), 0, 10, 30, 70, 130, 190)
	tired := certificates{looked: begin.Add(-3 * time.Second), pause: certificatesEvery, config: "a", root: "root"}
	want("nothing new", looks(tired, "a", 100), 57)
	want("a new configuration", looks(tired, "b", 100), 2, 12, 32, 72)
	tired.byName = map[string]appliance.Certificate{"www.prox.test": {}}
	want("all there", looks(tired, "b", 100), 57)
}
