package appliance

import (
	"context"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/guest"
)

const (
	// certificatesEvery is the pause between looks at the proxy's certificates, and
	// certificatesSoon the first while a name has none, which doubles with each.
	certificatesEvery = time.Minute
	certificatesSoon  = DefaultProbe
	// certificatesPages bounds one look.
	certificatesPages = 10
)

// certificates are what is known of one appliance's proxy.
type certificates struct {
	looked time.Time
	pause  time.Duration // before the next look while a name has none
	config string        // hash of the configuration that was live
	boot   string        // of the guest: after a boot all are read again
	since  int64
	byName map[string]appliance.Certificate
	root   string
}

// due tells whether it is time for another look, and what the pause after it is to be while a
// name still has none: they come within seconds, or not for long.
func (c certificates) due(in appliance.Input, config string, now time.Time) (pause time.Duration, due bool) {
	wait := c.pause
	if c.config != config || c.pause == 0 {
		wait = certificatesSoon
	}
	if pause = min(2*wait, certificatesEvery); !c.lacks(in) {
		wait = certificatesEvery
	}
	return pause, c.root == "" || now.Sub(c.looked) >= wait
}

// lacks tells whether a name is without the certificate that the proxy gets for it.
func (c certificates) lacks(in appliance.Input) bool {
	for _, v := range in.Vhosts {
		if mode := v.TLS.Mode; mode == appliance.TLSProvided || mode == appliance.TLSOff || v.Unready != "" {
			continue
		}
		for _, host := range v.Hosts {
			if _, ok := c.byName[strings.ToLower(host)]; !ok {
				return true
			}
		}
	}
	return false
}

// lookAtCertificates asks the guest for certificates that are new, now and then.
func (r *reconciler) lookAtCertificates(ctx context.Context, s *session, box inside, in appliance.Input, o appliance.Observation) {
	name := s.Object.GetMetadata().GetName()
	r.mu.Lock()
	known := r.certificates[name]
	r.mu.Unlock()
	if known.boot != o.BootID {
		known = certificates{boot: o.BootID}
	}
	pause, due := known.due(in, o.Manifest, time.Now())
	if !due {
		return
	}
	next := certificates{
		looked: time.Now(), pause: pause, config: o.Manifest, boot: o.BootID,
		since: known.since, root: known.root, byName: map[string]appliance.Certificate{},
	}
	for host, c := range known.byName {
		if c.NotAfter.After(next.looked.Add(-24 * time.Hour)) { // one that is gone is not told for ever
			next.byName[host] = c
		}
	}
	for range certificatesPages {
		res, err := box.runner.Run(ctx, box.target, guest.Command{Argv: appliance.CertificatesArgv(next.since), MaxOutput: appliance.MaxOutputBytes})
		if err != nil || res.ExitCode != 0 {
			s.Log.Debug("certificates of the proxy", "error", err, "exit", res.ExitCode)
			break
		}
		page, err := appliance.ParseCertificates(res.Stdout)
		if err != nil {
			s.Log.Debug("certificates of the proxy", "error", err)
			break
		}
		for host, c := range page.ByName {
			next.byName[host] = c
		}
		next.root = page.Root
		if page.Newest == next.since {
			next.since++ // all of one second: on with the next
		} else if page.Newest > 0 {
			next.since = page.Newest
		}
		if !page.Full {
			break
		}
	}
	r.mu.Lock()
	r.certificates[name] = next
	r.mu.Unlock()
}

func (r *reconciler) rootOf(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.certificates[name].root
}
