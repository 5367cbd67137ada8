package pvesim

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/netip"
	"strings"
	"time"
)

// nodeIndex lists the areas of a node, in the order of the real one.
func nodeIndex(*call) (result, error) {
	rows := []map[string]any{}
	for _, name := range strings.Fields(`aplinfo apt capabilities ceph certificates config disks dns firewall hardware hosts journal lxc
		migrateall netstat network qemu query-oci-repo-tags query-url-metadata replication report rrd rrddata scan sdn services spiceshell
		startall status stopall storage subscription suspendall syslog tasks termproxy time version vncshell vzdump wakeonlan`) {
		rows = append(rows, map[string]any{"name": name})
	}
	return result{data: rows}, nil
}

// nodeDNS names the router of the uplink, as an installation does.
func nodeDNS(c *call) (result, error) {
	return result{data: map[string]any{"search": "test.invalid", "dns1": c.node.cfg.UplinkGateway}}, nil
}

// service is a system service of the node, as systemd would tell.
type service struct{ name, desc, unit, active, state string }

const (
	running  = "running"
	notFound = "not-found"
)

var services = []service{
	{"chrony", "chrony.service", notFound, "inactive", "dead"},
	{"corosync", "corosync.service", notFound, "inactive", "dead"},
	{"cron", "cron.service", "masked", "inactive", "dead"},
	{"ksmtuned", "ksmtuned.service", notFound, "inactive", "dead"},
	{"lxcfs", "FUSE filesystem for LXC", "enabled", "active", running},
	{"postfix", "postfix.service", notFound, "inactive", "dead"},
	{"proxmox-firewall", "proxmox-firewall.service", notFound, "inactive", "dead"},
	{"pve-cluster", "The Proxmox VE cluster filesystem", "enabled", "active", running},
	{"pve-firewall", "Proxmox VE firewall", "enabled", "active", running},
	{"pve-ha-crm", "pve-ha-crm.service", notFound, "inactive", "dead"},
	{"pve-ha-lrm", "pve-ha-lrm.service", notFound, "inactive", "dead"},
	{"pve-lxc-syscalld", "pve-lxc-syscalld.service", notFound, "inactive", "dead"},
	{"pvedaemon", "PVE API Daemon", "enabled", "active", running},
	{"pvefw-logger", "pvefw-logger.service", notFound, "inactive", "dead"},
	{"pveproxy", "PVE API Proxy Server", "enabled", "active", running},
	{"pvescheduler", "Proxmox VE scheduler", "enabled", "active", running},
	{"pvestatd", "PVE Status Daemon", "enabled", "active", running},
	{"qmeventd", "qmeventd.service", notFound, "inactive", "dead"},
	{"spiceproxy", "spiceproxy.service", notFound, "inactive", "dead"},
	{"sshd", "OpenBSD Secure Shell server", "enabled", "active", running},
	{"syslog", "syslog.service", notFound, "inactive", "dead"},
	{"systemd-journald", "Journal Service", "static", "active", running},
	{"systemd-timesyncd", "systemd-timesyncd.service", notFound, "inactive", "dead"},
}

func nodeServices(*call) (result, error) {
	rows := []map[string]any{}
	for _, s := range services {
		rows = append(rows, map[string]any{"service": s.name, "name": s.name, "desc": s.desc, "unit-state": s.unit, "active-state": s.active, "state": s.state})
	}
	return result{data: rows}, nil
}

func nodeSubscription(c *call) (result, error) {
	sum := sha256.Sum256([]byte(c.node.name + c.node.creds.Fingerprint))
	return result{data: map[string]any{
		"status": "notfound", "message": "There is no subscription key", "serverid": strings.ToUpper(hex.EncodeToString(sum[:16])),
		"url": "https://www.proxmox.com/en/proxmox-virtual-environment/pricing",
	}}, nil
}

// nodeSyslog shows the ends of tasks, which is all that the node notes.
func nodeSyslog(c *call) (result, error) {
	_, finished := c.node.tasks.List()
	lines := []map[string]any{}
	add := func(t string) { lines = append(lines, map[string]any{"n": len(lines) + 1, "t": t}) }
	add(c.node.started.Format("Jan 02 15:04:05 ") + c.node.name + " systemd-journald[135]: Journal started")
	for i := len(finished) - 1; i >= 0; i-- {
		f := finished[i]
		add(time.Unix(f.End, 0).Format("Jan 02 15:04:05 ") + c.node.name + " pvedaemon[" + vmidText(int(f.UPID.PID)) + "]: <" + f.UPID.User + "> end task " + f.UPID.String() + " " + f.Exit)
	}
	total := len(lines)
	start, limit := c.number("start", 0), c.number("limit", 50)
	lines = lines[min(start, total):]
	if limit > 0 && len(lines) > limit {
		lines = lines[:limit]
	}
	return result{data: lines, total: &total}, nil
}

// certificates shows the one certificate of the node; a real one also has that of its CA.
func certificates(c *call) (result, error) {
	der := c.node.cert.Certificate[0]
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return result{}, err
	}
	san := append([]string{}, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			san = append(san, a.Unmap().String())
		}
	}
	name := func(cn string, org []string) string { return "/O=" + strings.Join(org, "/O=") + "/CN=" + cn }
	return result{data: []map[string]any{{
		"filename": "pve-ssl.pem", "fingerprint": c.node.creds.Fingerprint, "san": san,
		"subject": name(cert.Subject.CommonName, cert.Subject.Organization), "issuer": name(cert.Issuer.CommonName, cert.Issuer.Organization),
		"notbefore": cert.NotBefore.Unix(), "notafter": cert.NotAfter.Unix(), "public-key-type": "id-ecPublicKey", "public-key-bits": 256,
		"pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
	}}}, nil
}

// execute runs a batch of API calls, which is left out; only root@pam gets here at all.
func execute(*call) (result, error) {
	return result{}, die("batches of commands are not simulated")
}

func clusterOptions(*call) (result, error) {
	return result{data: map[string]any{"allowed-tags": []any{}, "mac_prefix": "BC:24:11", "description": ""}}, nil
}
