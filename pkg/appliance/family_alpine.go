package appliance

import (
	"fmt"
	"strings"
)

// alpine is the family with apk and OpenRC.
type alpine struct{}

func (alpine) Name() string { return "alpine" }
func (alpine) Untested() string {
	return "it was tried with OpenRC and busybox, not on Alpine itself: apk, its packages and musl are not tested"
}
func (alpine) Template() string          { return "alpine-3" }
func (alpine) Cockpit() string           { return "it needs systemd, which Alpine does not have" }
func (alpine) UnitDir() string           { return "/etc/init.d" }
func (alpine) Unit(s ServiceName) string { return "proximity-" + string(s) }
func (alpine) agent() string             { return alpineAgent }

var alpineAgent = joinAgent("alpine")

// LogSizePath bounds the logs where services have files of their own.
const LogSizePath = EtcDir + "/log-size"

// logs gives each service the same share of the room; it has two files, the one that it writes to
// and the one before.
func (alpine) logs(a *accepted) File {
	const files = 2 * 4
	return File{Path: LogSizePath, Mode: 0o644, Part: PartJournal, Content: fmt.Appendf(nil, "%d bytes for each file of a log\n", a.logMiB<<20/files)}
}

// definition is an init script. The agent becomes the service, and the supervisor starts it again
// every second for ever.
func (f alpine) definition(a *accepted, s ServiceName) File {
	return File{
		Path: f.UnitDir() + "/" + f.Unit(s), Mode: 0o755, Part: PartUnit,
		Content: []byte("#!/sbin/openrc-run\n" + header(a, purposes[s]) + strings.NewReplacer("@SERVICE@", string(s), "@MORE@", openrcMore[s]).Replace(openrcScript)),
	}
}

const openrcScript = `
name="proximity-@SERVICE@"
supervisor=supervise-daemon
command=/bin/sh
command_args="/usr/local/lib/proximity/agent become @SERVICE@"
respawn_delay=1
respawn_max=0
retry="TERM/5/KILL/2"
@MORE@
depend() {
	use net
	after bootmisc firewall
}
`

// openrcMore is what only some services need.
var openrcMore = map[ServiceName]string{ServiceCaddy: "rc_ulimit=\"-n 65536\"\n"}
