package kinds

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// valid are specs that the rules are tried on, one change at a time.
var valid = map[string]string{
	"Bridge": `spec:
  subnet: 10.20.0.0/24
  mtu: 1500
  comment: lab
`,
	"Appliance": `spec:
  bridgeRef: {name: lan}
  vmid: 9999
  resources: {cores: 1, memory: 512Mi, disk: 4Gi, swap: "0"}
  wan: {address: 192.168.1.50/24, gateway: 192.168.1.1}
  lan: {address: 10.20.0.1}
  dhcp: {start: 10.20.0.100, end: 10.20.0.250, leaseTime: 12h}
  dns: {zone: prox.local, upstreams: [9.9.9.9, "2620:fe::9"]}
  nat: {allowedDestinations: [192.168.7.0/24]}
`,
	"App": `spec:
  ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]
  webPort: http
  env: [{name: A_1, value: "x=y z"}]
  files: [{path: /etc/x.conf, content: "a\n", mode: "0640", owner: "root:adm"}]
  packages: [nginx, g++, "curl=7.88.1-10+deb12u5"]
  commands: [{argv: [echo, "a\nb"]}]
  healthCheck: {port: http, path: "/healthz?full=1"}
  network: {applianceRef: {name: net}, address: 10.20.0.7}
  source: {template: "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"}
  node: pve1
`,
	"Vhost": `spec:
  hosts: [www.prox.local, "*.apps.prox.local"]
  rules: [{path: /, backends: [{appRef: {name: web, port: http}, weight: 2}]}, {path: /nas, backends: [{address: "10.0.0.9:5000"}]}]
  tls: {mode: acme, redirect: true}
`,
	"Cluster": `spec:
  endpoints: ["https://pve1.example.org:8006"]
  guestAccess: ssh
  vmidStart: 100
  vmidEnd: 199
  storage: local-lvm
  wanBridge: vmbr0
  credentials: {tokenId: "proximity@pve!daemon", secretRef: {name: office, key: token}}
  ssh: {user: root, privateKeyRef: {name: office, key: ssh}, hostKeys: [ssh-ed25519 AAAA], addresses: {pve1: "192.168.1.10:22"}}
  templateSources: [{name: base, url: "https://example.org/base.tar.zst", sha512: ` + strings.Repeat("ab", 64) + `}]
`,
	"GitRepository": `spec:
  url: https://git.example.org/ops/infra.git
  ref: {branch: main}
  interval: 30s
  auth: {username: git, passwordRef: {name: git, key: token}}
  verify: {keys: ssh-ed25519 AAAA ada@example.org}
  webhook: {provider: github, secretRef: {name: git, key: webhook}}
`,
	"Sync": `spec:
  sourceRef: {name: main}
  path: ./apps/production
  exclude: [docs, "*/test"]
  namespaces: [default, "*"]
  dependsOn: [{name: infra}]
  substitute: {ZONE: prox.local}
  substituteFrom: [{name: TOKEN, secretKeyRef: {name: values, key: token}}]
  decryption: {ageKeyRefs: [{name: age, key: key}]}
  timeout: 90s
`,
	"Operation": `spec:
  action: CollectLogs
  target: {kind: Appliance, name: net}
  arguments: {service: caddy}
  timeout: 90s
`,
	"Namespace": `spec:
  description: "two\nlines"
`,
}

// problemsOf decodes, defaults and checks one object, and says what is wrong with places.
func problemsOf(t *testing.T, kind, spec string) string {
	t.Helper()
	reg := Registry()
	k, ok := reg.Get(kind)
	if !ok {
		t.Fatalf("no kind %s", kind)
	}
	namespace := ""
	if k.Namespaced {
		namespace = ", namespace: default"
	}
	text := fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: %s\nmetadata: {name: web%s}\n%s", kind, namespace, spec)
	docs, err := resource.DecodeDocuments(reg, "f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if k.Default != nil {
		k.Default(docs[0].Object)
	}
	return docs[0].Place(k.Check(docs[0].Object)).Error()
}

func TestValid(t *testing.T) {
	for kind, spec := range valid {
		if got := problemsOf(t, kind, spec); got != "" {
			t.Errorf("%s: %s", kind, got)
		}
	}
	for _, spec := range []string{"", "spec: {}\n"} {
		for _, kind := range []string{"App", "Cluster", "Namespace"} {
			if got := problemsOf(t, kind, spec); got != "" {
				t.Errorf("%s with nothing: %s", kind, got)
			}
		}
	}
}

const (
	pathWords  = "a path that begins with /, of letters, digits and /._~+,:;=@&-, without . or .. or doubled slashes in it"
	ifaceWords = "the name of an interface: 1 to 15 letters, digits, _ and -, not beginning with -"
	argWords   = "a list with the program and its arguments"
)

// TestRules: the change makes exactly these errors. Line 4 is `spec:`.
func TestRules(t *testing.T) {
	tests := []struct{ kind, old, new, want string }{
		// GitRepository
		{"GitRepository", "https://git.example.org/ops/infra.git", "https://git:pw@example.org/x", `5: spec.url: found "https://***@example.org/x"; allowed is a URL without a password: put it into a Secret and name that in spec.auth`},
		{"GitRepository", "https://git.example.org/ops/infra.git", "ftp://example.org/x", `5: spec.url: found "ftp://example.org/x"; allowed is a URL of https, http, ssh or file`},
		{"GitRepository", "https://git.example.org/ops/infra.git", "ssh://git@example.org/x", `4: spec.knownHosts: missing; allowed is lines of a known_hosts file with the keys of the server, as ssh-keyscan prints them`},
		{"GitRepository", "url: https://git.example.org/ops/infra.git", "url: file:///srv/infra.git\n  submodules: true", `6: spec.submodules: found "true"; allowed is false with a file URL: submodules are fetched from a server, not from other directories of this machine`},
		{"GitRepository", "{branch: main}", "{branch: main, tag: v1}", `6: spec.ref: found "branch, tag"; only one of branch, tag, semver and commit says what is followed`},
		{"GitRepository", "{branch: main}", "{semver: new}", `6: spec.ref.semver: found "new"; allowed is a range of semantic versions, e.g. 1.x or >=1.2.0 <2.0.0`},
		{"GitRepository", "interval: 30s", "interval: 1s", `7: spec.interval: found "1s"; allowed is a duration in whole seconds from 5s to 24h, e.g. 90s, 30m, 12h`},
		// Sync
		{"Sync", "./apps/production", "../elsewhere", `6: spec.path: found "../elsewhere"; allowed is a directory inside the repository, e.g. apps/production`},
		{"Sync", "{name: infra}", "{name: web}", `9: spec.dependsOn[0].name: found "web"; a Sync cannot wait for itself`},
		{"Sync", "ZONE:", "A-B:", `10: spec.substitute[A-B]: found "A-B"; allowed is a name of letters, digits and _, not beginning with a digit`},
		{"Sync", "ZONE:", "TOKEN:", `11: spec.substituteFrom[0].name: found "TOKEN"; allowed is a value of its own; it is already at spec.substitute["TOKEN"]`},
		// Bridge
		{"Bridge", "  subnet: 10.20.0.0/24\n", "", "4: spec.subnet: missing; allowed is " + subnetRule},
		{"Bridge", "10.20.0.0/24", "10.20.0.1/24", `5: spec.subnet: found "10.20.0.1/24"; allowed is the address of the network itself: 10.20.0.0/24`},
		{"Bridge", "10.20.0.0/24", "10.20.0.0", `5: spec.subnet: found "10.20.0.0"; allowed is ` + subnetRule},
		{"Bridge", "10.20.0.0/24", "10.20.0.0/33", `5: spec.subnet: found "10.20.0.0/33"; allowed is ` + subnetRule},
		{"Bridge", "10.20.0.0/24", "10.0.0.0/7", `5: spec.subnet: found "10.0.0.0/7"; allowed is ` + subnetRule},
		{"Bridge", "10.20.0.0/24", "10.20.0.0/30", `5: spec.subnet: found "10.20.0.0/30"; allowed is ` + subnetRule},
		{"Bridge", "10.20.0.0/24", "fd00::/64", `5: spec.subnet: found "fd00::/64"; allowed is ` + subnetRule},
		{"Bridge", "10.20.0.0/24", "127.0.0.0/8", `5: spec.subnet: found "127.0.0.0/8"; allowed is a network for hosts, not a loopback, link-local, multicast or unspecified one`},
		{"Bridge", "mtu: 1500", "mtu: 1279", `6: spec.mtu: found "1279"; allowed is a number from 1280 to 9216`},
		{"Bridge", "mtu: 1500", "mtu: 0", `6: spec.mtu: found "0"; allowed is a number from 1280 to 9216`},
		{"Bridge", "comment: lab", `comment: "a\nb"`, "7: spec.comment: found \"a\\nb\"; allowed is one line without control characters"},
		{"Bridge", "comment: lab", "interfaceName: a-name-of-16-chr", `7: spec.interfaceName: found "a-name-of-16-chr"; allowed is ` + ifaceWords},
		{"Bridge", "comment: lab", "interfaceName: a/b", `7: spec.interfaceName: found "a/b"; allowed is ` + ifaceWords},
		{"Bridge", "comment: lab", "interfaceName: br.5", `7: spec.interfaceName: found "br.5"; allowed is ` + ifaceWords},
		{"Bridge", "comment: lab", "interfaceName: ..", `7: spec.interfaceName: found ".."; allowed is ` + ifaceWords},
		{"Bridge", "comment: lab", "interfaceName: all", `7: spec.interfaceName: found "all"; allowed is ` + ifaceWords},
		{"Bridge", "comment: lab", "deletionPolicy: Retain", `7: spec.deletionPolicy: found "Retain"; allowed is one of Delete, Orphan`},
		{"Bridge", "comment: lab", "clusterRef: {name: A}", `7: spec.clusterRef.name: found "A"; allowed is ` + resource.NameRule},
		{"Bridge", "comment: lab", "backend: ovs", `7: spec.backend: found "ovs"; allowed is one of linux, sdn`},
		{"Bridge", "comment: lab", "sdn: {type: vxlan}", `7: spec.sdn: it is for the backend sdn; set spec.backend to sdn`},
		{"Bridge", "comment: lab", "nodes: [pve1, pve_2]", `7: spec.nodes[1]: found "pve_2"; allowed is the name of a node: 1 to 63 letters, digits and -`},
		{"Bridge", "comment: lab", "nodes: [pve1, pve1]", `7: spec.nodes[1]: found "pve1"; allowed is a value of its own; it is already at spec.nodes[0]`},
		{"Bridge", "comment: lab", "driftPolicy: never", `7: spec.driftPolicy: found "never"; allowed is one of correct, warn, ignore`},
		{"Bridge", "comment: lab", "backend: sdn\n  interfaceName: proximity-lan", `8: spec.interfaceName: found "proximity-lan"; allowed is ` + sdnNameRule},
		{"Bridge", "comment: lab", "backend: sdn\n  interfaceName: proximity", `8: spec.interfaceName: found "proximity"; allowed is ` + sdnNameRule},
		{"Bridge", "comment: lab", "backend: sdn\n  interfaceName: lan\n  sdn: {zone: my-zone}", `9: spec.sdn.zone: found "my-zone"; allowed is ` + sdnNameRule},
		{"Bridge", "comment: lab", "backend: sdn\n  interfaceName: lan\n  comment: lab", `9: spec.comment: found "lab"; a virtual network has room for our mark only; leave it out`},
		{"Bridge", "comment: lab", "backend: sdn\n  interfaceName: lan\n  sdn: {type: evpn}", `9: spec.sdn.type: found "evpn"; allowed is one of simple, vxlan`},
		{"Bridge", "comment: lab", "backend: sdn\n  interfaceName: lan\n  sdn: {tag: 0}", `9: spec.sdn.tag: found "0"; allowed is a number from 1 to 16777215`},
		{"Bridge", "comment: lab", "backend: sdn\n  interfaceName: lan\n  sdn: {type: simple, tag: 7}", `9: spec.sdn.tag: found "7"; a simple zone has no tag; leave it out, or set spec.sdn.type to vxlan`},
		{"Bridge", "comment: lab", "backend: sdn\n  interfaceName: lan\n  sdn: {peers: [10.0.0.1, pve2]}", `9: spec.sdn.peers[1]: found "pve2"; allowed is the IP address of a node`},
		// Appliance
		{"Appliance", "  bridgeRef: {name: lan}\n", "", "4: spec.bridgeRef.name: missing; allowed is the name of the Bridge that the appliance serves"},
		{"Appliance", "vmid: 9999", "vmid: 99", `6: spec.vmid: found "99"; allowed is a number from 100 to 999999999`},
		{"Appliance", "vmid: 9999", "hostname: a_b", `6: spec.hostname: found "a_b"; allowed is ` + labelRule},
		{"Appliance", "vmid: 9999", "os: gentoo", `6: spec.os: found "gentoo"; allowed is one of debian, alpine`},
		{"Appliance", "vmid: 9999", "managementUI: Cockpit\n  os: alpine", "6: spec.managementUI: found \"Cockpit\"; Cockpit needs systemd, which Alpine does not have; use None: the daemon shows services, logs and figures by itself"},
		{"Appliance", "vmid: 9999", "node: a.b", `6: spec.node: found "a.b"; allowed is the name of a node: 1 to 63 letters, digits and -`},
		{"Appliance", "vmid: 9999", "template: ../x", `6: spec.template: found "../x"; allowed is a volume id (local:vztmpl/NAME) or the beginning of a template's name, e.g. debian-12-standard`},
		{"Appliance", "cores: 1", "cores: 0", `7: spec.resources.cores: found "0"; allowed is a number from 1 to 8192`},
		{"Appliance", "512Mi", "512MB", `7: spec.resources.memory: found "512MB"; allowed is an IEC quantity: a whole number and Ki, Mi, Gi or Ti, e.g. 512Mi, in whole Mi from 16Mi to 16Ti`},
		{"Appliance", "512Mi", "15Mi", `7: spec.resources.memory: found "15Mi"; allowed is an IEC quantity: a whole number and Ki, Mi, Gi or Ti, e.g. 512Mi, in whole Mi from 16Mi to 16Ti`},
		{"Appliance", "512Mi", "16385Ki", `7: spec.resources.memory: found "16385Ki"; allowed is an IEC quantity: a whole number and Ki, Mi, Gi or Ti, e.g. 512Mi, in whole Mi from 16Mi to 16Ti`},
		{"Appliance", "4Gi", "255Mi", `7: spec.resources.disk: found "255Mi"; allowed is an IEC quantity: a whole number and Ki, Mi, Gi or Ti, e.g. 512Mi, in whole Mi from 256Mi to 128Ti`},
		{"Appliance", `swap: "0"`, "swap: -1Mi", `7: spec.resources.swap: found "-1Mi"; allowed is an IEC quantity: a whole number and Ki, Mi, Gi or Ti, e.g. 512Mi, in whole Mi from 0 to 16Ti`},
		{"Appliance", "192.168.1.50/24", "192.168.1.50", `8: spec.wan.address: found "192.168.1.50"; allowed is dhcp, or an IPv4 address with the length of its network, e.g. 192.168.1.50/24`},
		{"Appliance", "192.168.1.50/24", "192.168.1.255/24", `8: spec.wan.address: found "192.168.1.255/24"; allowed is dhcp, or an IPv4 address with the length of its network, e.g. 192.168.1.50/24`},
		{"Appliance", "192.168.1.50/24", "dhcp", `8: spec.wan.gateway: found "192.168.1.1"; with spec.wan.address dhcp the gateway comes from the lease; leave it out`},
		{"Appliance", ", gateway: 192.168.1.1", "", "8: spec.wan.gateway: missing; allowed is another host address inside 192.168.1.0/24"},
		{"Appliance", "gateway: 192.168.1.1", "gateway: 192.168.2.1", `8: spec.wan.gateway: found "192.168.2.1"; allowed is another host address inside 192.168.1.0/24`},
		{"Appliance", "gateway: 192.168.1.1", "gateway: 192.168.1.50", `8: spec.wan.gateway: found "192.168.1.50"; allowed is another host address inside 192.168.1.0/24`},
		{"Appliance", "gateway: 192.168.1.1", "gateway: 192.168.1.1, bridge: a b", `8: spec.wan.bridge: found "a b"; allowed is ` + ifaceWords},
		{"Appliance", "{address: 10.20.0.1}", "{}", "9: spec.lan.address: missing; allowed is an IPv4 address, e.g. 10.20.0.1"},
		{"Appliance", "{address: 10.20.0.1}", "{address: 10.20.0.1/24}", `9: spec.lan.address: found "10.20.0.1/24"; allowed is an IPv4 address, e.g. 10.20.0.1`},
		{"Appliance", "{address: 10.20.0.1}", "{address: 10.20.0.100}", `9: spec.lan.address: found "10.20.0.100"; allowed is an address outside the DHCP range 10.20.0.100 to 10.20.0.250`},
		{"Appliance", "{address: 10.20.0.1}", "{address: 127.0.0.1}", `9: spec.lan.address: found "127.0.0.1"; allowed is an IPv4 address, e.g. 10.20.0.1`},
		{"Appliance", "{address: 10.20.0.1}", "{address: 010.20.0.1}", `9: spec.lan.address: found "010.20.0.1"; allowed is an IPv4 address, e.g. 10.20.0.1`},
		{"Appliance", "start: 10.20.0.100, ", "", "10: spec.dhcp.start: missing; allowed is an IPv4 address, e.g. 10.20.0.1"},
		{"Appliance", "end: 10.20.0.250", "end: 10.20.0.99", `10: spec.dhcp.end: found "10.20.0.99"; allowed is an address not before spec.dhcp.start, 10.20.0.100`},
		{"Appliance", "end: 10.20.0.250", "end: 10.20.0.256", `10: spec.dhcp.end: found "10.20.0.256"; allowed is an IPv4 address, e.g. 10.20.0.1`},
		{"Appliance", "leaseTime: 12h", "leaseTime: 1m", `10: spec.dhcp.leaseTime: found "1m"; allowed is a duration in whole seconds from 2m to 168h, e.g. 90s, 30m, 12h`},
		{"Appliance", "leaseTime: 12h", "leaseTime: forever", `10: spec.dhcp.leaseTime: found "forever"; allowed is a duration in whole seconds from 2m to 168h, e.g. 90s, 30m, 12h`},
		{"Appliance", "zone: prox.local, ", "", "11: spec.dns.zone: missing; allowed is a DNS zone in lower case of at most 180 characters, e.g. prox.local"},
		{"Appliance", "zone: prox.local", `zone: "prox.local\naddress=/x/1.2.3.4"`, "11: spec.dns.zone: found \"prox.local\\naddress=/x/1.2.3.4\"; allowed is one line without control characters"},
		{"Appliance", "zone: prox.local", "zone: Prox.local", `11: spec.dns.zone: found "Prox.local"; allowed is a DNS zone in lower case of at most 180 characters, e.g. prox.local`},
		{"Appliance", "zone: prox.local", "zone: prox.local.", `11: spec.dns.zone: found "prox.local."; allowed is a DNS zone in lower case of at most 180 characters, e.g. prox.local`},
		{"Appliance", "9.9.9.9", "dns.example.org", `11: spec.dns.upstreams[0]: found "dns.example.org"; allowed is the IP address of a resolver other than the appliance`},
		{"Appliance", "9.9.9.9", "10.20.0.1", `11: spec.dns.upstreams[0]: found "10.20.0.1"; allowed is the IP address of a resolver other than the appliance`},
		{"Appliance", `"2620:fe::9"`, "9.9.9.9", `11: spec.dns.upstreams[1]: found "9.9.9.9"; allowed is a value of its own; it is already at spec.dns.upstreams[0]`},
		{"Appliance", "vmid: 9999", "fallbackAfter: 10s", `6: spec.fallbackAfter: found "10s"; allowed is a duration in whole seconds from 30s to 24h, e.g. 90s, 30m, 12h`},
		{"Appliance", "192.168.7.0/24", "192.168.7.1/24", `12: spec.nat.allowedDestinations[0]: found "192.168.7.1/24"; allowed is the address of the network itself: 192.168.7.0/24`},
		// App
		{"App", "source: {template: ", "source: {image: nginx, template: ", `13: spec.source.image: found "nginx"; spec.source has either a template or an image; leave one out`},
		{"App", `source: {template: "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"}`, "source: {image: nginx}", `13: spec.source.image: found "nginx"; images are not supported by this version; use spec.source.template, or leave the source out for the cluster's default template`},
		{"App", "node: pve1", "state: Paused", `14: spec.state: found "Paused"; allowed is one of Running, Stopped`},
		{"App", "node: pve1", "vmid: 1000000000", `14: spec.vmid: found "1000000000"; allowed is a number from 100 to 999999999`},
		{"App", "node: pve1", "hostname: web.prox.local", `14: spec.hostname: found "web.prox.local"; allowed is ` + labelRule},
		{"App", "{name: http, port: 80}", "{name: http}", "5: spec.ports[0].port: missing; allowed is a number from 1 to 65535"},
		{"App", "{name: http, port: 80}", "{name: http, port: 65536}", `5: spec.ports[0].port: found "65536"; allowed is a number from 1 to 65535`},
		{"App", "{name: dns,", "{name: http,", `5: spec.ports[1].name: found "http"; allowed is a value of its own; it is already at spec.ports[0]`},
		{"App", "{name: dns,", "{", "5: spec.ports[1].name: missing; allowed is a value that no other item of the list has"},
		{"App", "port: 53, protocol: UDP", "port: 80", `5: spec.ports[1].port: found "80/TCP"; allowed is a value of its own; it is already at spec.ports[0]`},
		{"App", "protocol: UDP", "protocol: SCTP", `5: spec.ports[1].protocol: found "SCTP"; allowed is one of TCP, UDP`},
		{"App", "webPort: http", "webPort: web", `6: spec.webPort: found "web"; allowed is the name of a TCP port of spec.ports: http`},
		{"App", "webPort: http", "webPort: dns", `6: spec.webPort: found "dns"; allowed is the name of a TCP port of spec.ports: http`},
		{"App", "name: A_1", "name: A-1", `7: spec.env[0].name: found "A-1"; allowed is letters, digits and _, not beginning with a digit`},
		{"App", `"x=y z"`, `"x\ny"`, "7: spec.env[0].value: found \"x\\ny\"; allowed is one line without control characters"},
		{"App", "path: /etc/x.conf", "path: etc/x.conf", `8: spec.files[0].path: found "etc/x.conf"; allowed is an absolute path of a file, without . or .. or doubled slashes in it`},
		{"App", "path: /etc/x.conf", "path: /etc/../x", `8: spec.files[0].path: found "/etc/../x"; allowed is an absolute path of a file, without . or .. or doubled slashes in it`},
		{"App", "path: /etc/x.conf", "path: /etc/", `8: spec.files[0].path: found "/etc/"; allowed is an absolute path of a file, without . or .. or doubled slashes in it`},
		{"App", `mode: "0640"`, `mode: "0680"`, `8: spec.files[0].mode: found "0680"; allowed is a mode in octal, in quotes, e.g. "0644"`},
		{"App", `owner: "root:adm"`, `owner: "0:0"`, `8: spec.files[0].owner: found "0:0"; allowed is user or user:group by name, e.g. root:root`},
		{"App", `content: "a\n"`, `content: "a\0b"`, "8: spec.files[0].content: found \"a\\x00b\"; allowed is text without NUL characters"},
		{"App", "[nginx,", "[-oDebug::x=1,", `9: spec.packages[0]: found "-oDebug::x=1"; allowed is the name of a package, or name=version`},
		{"App", "[nginx,", "[nginx-,", `9: spec.packages[0]: found "nginx-"; allowed is the name of a package, or name=version`},
		{"App", "[nginx,", "[curl,", `9: spec.packages[2]: found "curl"; allowed is a value of its own; it is already at spec.packages[0]`},
		{"App", `[echo, "a\nb"]`, "[]", "10: spec.commands[0].argv: missing; allowed is " + argWords},
		{"App", `[echo, "a\nb"]`, `[" "]`, `10: spec.commands[0].argv[0]: found " "; allowed is the name or path of a program`},
		{"App", `[echo, "a\nb"]`, `[echo, "a\0b"]`, "10: spec.commands[0].argv[1]: found \"a\\x00b\"; allowed is text without NUL characters"},
		{"App", "{port: http, path", "{port: dns, path", `11: spec.healthCheck.port: found "dns"; allowed is the name of a TCP port of spec.ports: http`},
		{"App", `path: "/healthz`, `path: "healthz`, `11: spec.healthCheck.path: found "healthz?full=1"; allowed is a path that begins with /, of letters, digits and /._~+,:;=@&?-`},
		{"App", "address: 10.20.0.7", "address: 10.20.0", `12: spec.network.address: found "10.20.0"; allowed is an IPv4 address, e.g. 10.20.0.1`},
		{"App", "applianceRef: {name: net}", "fallback: LAN", `12: spec.network.fallback: found "LAN"; allowed is one of None, WAN`},
		{"App", "applianceRef: {name: net}", `applianceRef: {name: ""}`, `12: spec.network.applianceRef.name: found ""; allowed is ` + resource.NameRule},
		// Vhost
		{"Vhost", `[www.prox.local, "*.apps.prox.local"]`, "[]", "5: spec.hosts: missing; allowed is at least one host name"},
		{"Vhost", "www.prox.local", "WWW.prox.local", `5: spec.hosts[0]: found "WWW.prox.local"; allowed is ` + hostRule},
		{"Vhost", "www.prox.local", "a_b.prox.local", `5: spec.hosts[0]: found "a_b.prox.local"; allowed is ` + hostRule},
		{"Vhost", "www.prox.local", "10.0.0.1", `5: spec.hosts[0]: found "10.0.0.1"; allowed is ` + hostRule},
		{"Vhost", "www.prox.local", `"www.*.local"`, `5: spec.hosts[0]: found "www.*.local"; allowed is ` + hostRule},
		{"Vhost", "www.prox.local", `"*.local"`, `5: spec.hosts[0]: found "*.local"; allowed is ` + hostRule},
		{"Vhost", "www.prox.local", `"*.apps.prox.local"`, `5: spec.hosts[1]: found "*.apps.prox.local"; allowed is a value of its own; it is already at spec.hosts[0]`},
		{"Vhost", "path: /nas", "path: nas", `6: spec.rules[1].path: found "nas"; allowed is ` + pathWords},
		{"Vhost", "path: /nas", "path: /a/../b", `6: spec.rules[1].path: found "/a/../b"; allowed is ` + pathWords},
		{"Vhost", "path: /nas", `path: "/a{b}"`, `6: spec.rules[1].path: found "/a{b}"; allowed is ` + pathWords},
		{"Vhost", "path: /nas", "path: /", `6: spec.rules[1].path: found "/"; allowed is a value of its own; it is already at spec.rules[0]`},
		{"Vhost", "path: /, backends", "path: /NAS/, backends", `6: spec.rules[1].path: found "/nas"; allowed is a value of its own; it is already at spec.rules[0]`},
		{"Vhost", "weight: 2", "weight: 0", `6: spec.rules[0].backends[0].weight: found "0"; allowed is a number from 1 to 1000`},
		{"Vhost", "appRef: {name: web, port: http}, ", "", "6: spec.rules[0].backends[0]: missing; allowed is an appRef, an address or managementUI"},
		{"Vhost", "{name: web, port: http}", "{port: http}", "6: spec.rules[0].backends[0].appRef.name: missing; allowed is the name of an App in the same namespace"},
		{"Vhost", "port: http", `port: "0"`, `6: spec.rules[0].backends[0].appRef.port: found "0"; allowed is the name of a port, or a number from 1 to 65535`},
		{"Vhost", "weight: 2", `address: "1.2.3.4:5"`, `6: spec.rules[0].backends[0].address: found "1.2.3.4:5"; a backend has either an appRef or an address; leave one out`},
		{"Vhost", "10.0.0.9:5000", "10.0.0.9", `6: spec.rules[1].backends[0].address: found "10.0.0.9"; allowed is host:port, e.g. 192.168.1.20:8080 or nas.example.org:443`},
		{"Vhost", "10.0.0.9:5000", "10.0.0.9:70000", `6: spec.rules[1].backends[0].address: found "10.0.0.9:70000"; allowed is host:port, e.g. 192.168.1.20:8080 or nas.example.org:443`},
		{"Vhost", "10.0.0.9:5000", "127.0.0.1:2019", `6: spec.rules[1].backends[0].address: found "127.0.0.1:2019"; allowed is host:port, e.g. 192.168.1.20:8080 or nas.example.org:443, not an address of the proxy itself or of many hosts`},
		{"Vhost", "10.0.0.9:5000", "[::ffff:127.0.0.1]:80", `6: spec.rules[1].backends[0].address: found "[::ffff:127.0.0.1]:80"; allowed is host:port, e.g. 192.168.1.20:8080 or nas.example.org:443, not an address of the proxy itself or of many hosts`},
		{"Vhost", "10.0.0.9:5000", "[::ffff:255.255.255.255]:80", `6: spec.rules[1].backends[0].address: found "[::ffff:255.255.255.255]:80"; allowed is host:port, e.g. 192.168.1.20:8080 or nas.example.org:443, not an address of the proxy itself or of many hosts`},
		{"Vhost", "10.0.0.9:5000", "localhost:80", `6: spec.rules[1].backends[0].address: found "localhost:80"; allowed is host:port, e.g. 192.168.1.20:8080 or nas.example.org:443`},
		{"Vhost", "backends: [{address: \"10.0.0.9:5000\"}]", "backends: []", "6: spec.rules[1].backends: missing; allowed is at least one backend, or a redirect"},
		{"Vhost", "mode: acme", "mode: provided", "7: spec.tls.certificate: missing; allowed is the key of a Secret with a certificate in PEM"},
		{"Vhost", "mode: acme", "mode: on", `7: spec.tls.mode: found "on"; allowed is one of internal, acme, provided, off`},
		{"Vhost", "mode: acme", "mode: off", `7: spec.tls.redirect: found "true"; without TLS there is nothing to redirect to; set spec.tls.mode or leave redirect out`},
		// The others
		{"Cluster", "https://pve1.example.org:8006", "http://pve1:8006", `5: spec.endpoints[0]: found "http://pve1:8006"; allowed is a URL of a Proxmox API, https://host:8006, without credentials or a path`},
		{"Cluster", "https://pve1.example.org:8006", "https://root:pw@pve1:8006/", `5: spec.endpoints[0]: found "https://***@pve1:8006/"; allowed is a URL of a Proxmox API, https://host:8006, without credentials or a path`},
		{"Cluster", "vmidEnd: 199", "vmidEnd: 99", "8: spec.vmidEnd: found \"99\"; allowed is a number from 100 to 999999999"},
		{"Cluster", "vmidStart: 100", "vmidStart: 200", `8: spec.vmidEnd: found "199"; allowed is a number not below spec.vmidStart, 200`},
		{"Cluster", "guestAccess: ssh", "guestAccess: magic", `6: spec.guestAccess: found "magic"; allowed is one of ssh, local, console`},
		{"Cluster", "guestAccess: ssh", "fingerprint: AB:CD", `6: spec.fingerprint: found "AB:CD"; allowed is a SHA-256 fingerprint: 32 pairs of hexadecimal digits joined by colons`},
		{"Cluster", "storage: local-lvm", "fingerprints: [AB]", `9: spec.fingerprints[0]: found "AB"; allowed is a SHA-256 fingerprint: 32 pairs of hexadecimal digits joined by colons`},
		{"Cluster", "storage: local-lvm", "caBundle: nonsense", `9: spec.caBundle: found "text that is not PEM"; allowed is certificates in PEM form`},
		{"Cluster", "storage: local-lvm", "caBundle: \"-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----\\n\"", `9: spec.caBundle: found "a PRIVATE KEY"; allowed is certificates in PEM form`},
		{"Cluster", "storage: local-lvm", "caBundle: \"\"", `9: spec.caBundle: found "no certificate"; allowed is certificates in PEM form`},
		{"Cluster", "proximity@pve!daemon", "proximity@pve", `11: spec.credentials.tokenId: found "proximity@pve"; allowed is user@realm!name, e.g. proximity@pve!daemon`},
		{"Cluster", `tokenId: "proximity@pve!daemon", `, "", `11: spec.credentials.tokenId: missing; allowed is an API token, user@realm!name; or else username`},
		{"Cluster", `tokenId: "proximity@pve!daemon"`, "username: root", `11: spec.credentials.username: found "root"; allowed is user@realm, e.g. proximity@pve`},
		{"Cluster", ", secretRef: {name: office, key: token}", "", `11: spec.credentials.secretRef: missing; allowed is the name and key of the Secret that holds the token's secret or the password`},
		{"Cluster", "privateKeyRef: {name: office, key: ssh}, ", "", `12: spec.ssh.privateKeyRef: missing; allowed is the name and key of the Secret that holds the private key`},
		{"Cluster", "[ssh-ed25519 AAAA]", `["pve ssh-ed25519 AAAA"]`, `12: spec.ssh.hostKeys[0]: found "pve ssh-ed25519 AAAA"; allowed is a type and a key, e.g. ssh-ed25519 AAAA...`},
		{"Cluster", "192.168.1.10:22", "192.168.1.10", `12: spec.ssh.addresses[pve1]: found "192.168.1.10"; allowed is host:port, e.g. 192.168.1.10:22`},
		{"Cluster", "guestAccess: ssh", "guestAccess: console", `12: spec.ssh: it is not used with guestAccess: console; leave it out`},
		{"Cluster", "https://example.org/base.tar.zst", "https://u:p@example.org/base.tar.zst", `13: spec.templateSources[0].url: found "https://***@example.org/base.tar.zst"; allowed is an http or https URL of a .tar.zst, .tar.xz or .tar.gz, without credentials`},
		{"Cluster", "https://example.org/base.tar.zst", "https://example.org/base.iso", `13: spec.templateSources[0].url: found "https://example.org/base.iso"; allowed is an http or https URL of a .tar.zst, .tar.xz or .tar.gz, without credentials`},
		{"Cluster", "name: base", "name: -base", `13: spec.templateSources[0].name: found "-base"; allowed is letters, digits, -, _ and ., a letter or digit first`},
		{"Cluster", strings.Repeat("ab", 64), "abc", `13: spec.templateSources[0].sha512: found "abc"; allowed is 128 hexadecimal digits`},
		{"Operation", "action: CollectLogs", "action: Explode", `5: spec.action: found "Explode"; allowed is one of RestartAppliance, TestNAT, CollectLogs, Examine, Rebuild, Preview`},
		{"Operation", "  action: CollectLogs\n", "", "4: spec.action: missing; allowed is RestartAppliance, TestNAT, CollectLogs, Examine, Rebuild or Preview"},
		{"Operation", "kind: Appliance", "kind: Vhost", `6: spec.target.kind: found "Vhost"; allowed is Appliance or App, for the action CollectLogs`},
		{"Operation", ", name: net", "", "6: spec.target.name: missing; allowed is the name of the object to act on"},
		{"Operation", "timeout: 90s", "timeout: 31m", `8: spec.timeout: found "31m"; allowed is a duration in whole seconds from 1s to 30m, e.g. 90s, 30m, 12h`},
		{"Operation", "service: caddy", `service: "a\nb"`, "7: spec.arguments[service]: found \"a\\nb\"; allowed is one line without control characters"},
		{"Namespace", `"two\nlines"`, `"a\0"`, "5: spec.description: found \"a\\x00\"; allowed is text without NUL characters"},
	}
	for _, tt := range tests {
		name := regexp.MustCompile(`^\d+: ([^:]+):`).FindStringSubmatch(tt.want)[1]
		t.Run(tt.kind+" "+name, func(t *testing.T) {
			if !strings.Contains(valid[tt.kind], tt.old) {
				t.Fatalf("the valid %s has no %q", tt.kind, tt.old)
			}
			got := problemsOf(t, tt.kind, strings.Replace(valid[tt.kind], tt.old, tt.new, 1))
			// A value that is bad in two ways has a second line; the first one counts.
			if first, _, _ := strings.Cut(got, "\n"); first != "f.yaml:"+tt.want && !strings.HasSuffix(got, "\nf.yaml:"+tt.want) {
				t.Errorf("got\n%s\nwant\nf.yaml:%s", got, tt.want)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	list := func(n int, item string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprintf(item, i)
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	tests := []struct{ kind, spec, want string }{
		{"App", "spec:\n  ports: " + list(65, "{name: p%d, port: 1%03[1]d}"), `spec.ports: found "65"; allowed is at most 64 items`},
		{"App", "spec:\n  packages: " + list(257, "package%d"), `spec.packages: found "257"; allowed is at most 256 items`},
		{"App", "spec:\n  env: " + list(257, "{name: A%d}"), `spec.env: found "257"; allowed is at most 256 items`},
		{"App", "spec:\n  files: " + list(129, "{path: /x/%d}"), `spec.files: found "129"; allowed is at most 128 items`},
		{"App", "spec:\n  commands: " + list(65, "{argv: [echo, a%d]}"), `spec.commands: found "65"; allowed is at most 64 items`},
		{"App", "spec:\n  commands: [{argv: " + list(257, "a%d") + "}]", `spec.commands[0].argv: found "257 arguments, `},
		{"App", "spec:\n  files: [{path: /x, content: \"" + strings.Repeat("x", 262145) + "\"}]", `spec.files[0].content: found "262145 bytes"; allowed is at most 262144 bytes`},
		{"App", "spec:\n  env: [{name: A, value: x, valueFrom: {secretKeyRef: {name: s, key: k}}}]", `spec.env[0].valueFrom: a variable has either a value or valueFrom; leave one out`},
		{"App", "spec:\n  env: [{name: A, valueFrom: {}}]", `spec.env[0].valueFrom.secretKeyRef: missing; allowed is the name of a Secret and a key`},
		{"App", "spec:\n  env: [{name: A, valueFrom: {secretKeyRef: {name: s}}}]", `spec.env[0].valueFrom.secretKeyRef.key: missing; allowed is a key of the Secret`},
		{"App", "spec:\n  env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k, namespace: other}}}]", `spec.env[0].valueFrom.secretKeyRef.namespace: found "other"; an object refers to Secrets of its own namespace only, default; leave it out`},
		{"App", "spec:\n  env: [{name: A, value: \"" + strings.Repeat("x", 8193) + "\"}]", `spec.env[0].value: found "8193 bytes"; allowed is at most 8192 bytes`},
		{"Vhost", "spec:\n  hosts: " + list(65, "h%d.x") + "\n  rules: [{backends: [{address: a:1}]}]", `spec.hosts: found "65"; allowed is at most 64 items`},
		{"Vhost", "spec:\n  hosts: [a.x]\n  rules: " + list(65, "{path: /%d, backends: [{address: a:1}]}"), `spec.rules: found "65"; allowed is at most 64 items`},
		{"Vhost", "spec:\n  hosts: [a.x]\n  rules: [{backends: " + list(65, "{address: a%d:1}") + "}]", `spec.rules[0].backends: found "65"; allowed is at most 64 items`},
		{"Vhost", "spec:\n  hosts: [a.x]\n  rules: [{backends: [{managementUI: true, address: a:1}]}]", `spec.rules[0].backends[0].managementUI: found "true"; a backend has an appRef, an address or managementUI; leave the others out`},
		{"Vhost", "spec:\n  hosts: [a.x]\n  rules: [{backends: [{managementUI: true}, {address: a:1}]}]", `spec.rules[0].backends[0].managementUI: found "true"; a Vhost of the management UI has no other backend; leave the others out`},
		{"Vhost", "spec:\n  hosts: [a.x]\n  rules: [{path: /ui, backends: [{managementUI: true}]}]", `spec.rules[0].path: found "/ui"; a Vhost of the management UI has one rule, for /; leave the others out`},
		{"Vhost", "spec:\n  hosts: [a.x]\n  rules: [{path: /a, backends: [{address: a:1}]}, {backends: [{managementUI: true}]}]", `spec.rules[1].path: found "/"; a Vhost of the management UI has one rule, for /; leave the others out`},
		{"Vhost", "spec:\n  hosts: [a.x]\n  rules: [{backends: [{managementUI: true}], backendTLS: {}}]", `spec.rules[0].backendTLS: found "backendTLS"; the way to the management UI is known; leave it out`},
		{"Vhost", "spec:\n  hosts: [a.x]\n  rules: [{backends: [{managementUI: true}], healthCheck: {path: /}}]", `spec.rules[0].healthCheck: found "healthCheck"; the appliance looks after its management UI; leave it out`},
		{"Vhost", "spec:\n  hosts: [a.x]\n  tls: {mode: off}\n  rules: [{backends: [{managementUI: true}]}]", `spec.tls.mode: found "off"; a Vhost of the management UI answers over HTTPS only`},
		{"Vhost", "spec:\n  hosts: [a.x]\n  tls: {redirect: false}\n  rules: [{backends: [{managementUI: true}]}]", `spec.tls.redirect: found "false"; a Vhost of the management UI answers over HTTPS only; leave redirect out`},
		{"Vhost", "spec:\n  hosts: [\"*.a.x\"]\n  rules: [{backends: [{managementUI: true}]}]", `spec.hosts[0]: found "*.a.x"; a Vhost of the management UI has whole names only`},
		{"Cluster", "spec:\n  endpoints: " + list(33, "\"https://h%d\""), `spec.endpoints: found "33"; allowed is at most 32 items`},
		{"Operation", "spec: {action: TestNAT, target: {kind: Appliance, name: a}, arguments: {" + strings.Trim(list(33, "k%d: v"), "[]") + "}}", `spec.arguments: found "33"; allowed is at most 32 entries`},
	}
	for _, tt := range tests {
		if got := problemsOf(t, tt.kind, tt.spec+"\n"); !strings.Contains(got, tt.want) || strings.Contains(got, "\n") {
			t.Errorf("got %s\nwant %s", got, tt.want)
		}
	}
}

func TestDefaults(t *testing.T) {
	tests := map[string][2]string{
		"Bridge": {"{}", `clusterRef: {name: default}, interfaceName: web, deletionPolicy: Delete, backend: linux`},
		"Appliance": {"{wan: {bridge: vmbr1}, nat: {enabled: false}}", `clusterRef: {name: default}, vmid: 9999, hostname: web, os: debian, ` +
			`resources: {cores: 1, memory: 512Mi, disk: 4Gi, swap: "0"}, wan: {bridge: vmbr1, address: dhcp}, dhcp: {leaseTime: 12h}, ` +
			`nat: {enabled: false}, managementUI: None, fallback: None, deletionPolicy: Delete`},
		"App": {`{ports: [{name: http}], files: [{path: /x}], resources: {memory: 1Gi}, hostname: other}`, `hostname: other, state: Running, ` +
			`resources: {cores: 1, memory: 1Gi, disk: 8Gi, swap: "0"}, ports: [{name: http, protocol: TCP}], files: [{path: /x, mode: "0644", owner: "root:root"}], deletionPolicy: Delete`},
		"Vhost":     {"{rules: [{backends: [{address: x}]}]}", `rules: [{path: /, backends: [{address: x, weight: 1}]}], tls: {mode: internal}`},
		"Operation": {"{}", "timeout: 2m"},
	}
	reg := Registry()
	decode := func(kind, spec string) resource.Object {
		obj, err := resource.DecodeJSON(reg, []byte(fmt.Sprintf("{apiVersion: proximity/v1alpha1, kind: %s, metadata: {name: web}, spec: %s}", kind, spec)))
		if err != nil {
			t.Fatal(err)
		}
		return obj
	}
	for kind, tt := range tests {
		got, want := decode(kind, tt[0]), decode(kind, "{"+tt[1]+"}")
		k, _ := reg.Get(kind)
		k.Default(got)
		if !proto.Equal(got, want) {
			t.Errorf("%s: got %v\nwant %v", kind, got, want)
		}
		k.Default(got)
		if !proto.Equal(got, want) {
			t.Errorf("%s: defaults change when they are filled in again", kind)
		}
	}
}

// TestChecksOfNothing: no check relies on a default or on a part that is there.
func TestChecksOfNothing(t *testing.T) {
	for _, k := range Registry().Kinds() {
		if got := k.Check(k.New()).Error(); !strings.Contains(got, "metadata.name: missing") {
			t.Errorf("%s: %s", k.Name, got)
		}
		if k.Default != nil {
			k.Default(k.New())
		}
		if k.Claims != nil {
			k.Claims(k.New())
		}
		if k.Relate != nil {
			if errs := k.Relate(k.New(), nothing{}); len(errs) > 0 {
				t.Errorf("%s: %s", k.Name, errs)
			}
		}
	}
}

// nothing is a View without objects.
type nothing struct{}

func (nothing) Get(resource.Key) (resource.Object, bool) { return nil, false }
func (nothing) List(string, string) []resource.Object    { return nil }
func (nothing) Writing(resource.Key) bool                { return false }

func TestWebPort(t *testing.T) {
	port := func(name string, n int32, protocol string) *v1alpha1.AppPort {
		return &v1alpha1.AppPort{Name: proto.String(name), Port: proto.Int32(n), Protocol: proto.String(protocol)}
	}
	ports := []*v1alpha1.AppPort{port("quic", 443, "UDP"), port("http", 80, "TCP"), port("admin", 8080, "TCP")}
	if got := WebPort(&v1alpha1.AppSpec{Ports: ports}); got.GetPort() != 80 {
		t.Errorf("by name: %v", got)
	}
	if got := WebPort(&v1alpha1.AppSpec{Ports: ports, WebPort: proto.String("admin")}); got.GetPort() != 8080 {
		t.Errorf("named: %v", got)
	}
	if got := WebPort(&v1alpha1.AppSpec{Ports: ports[2:]}); got != nil {
		t.Errorf("none: %v", got)
	}
	if got := PortNamed(&v1alpha1.AppSpec{Ports: ports}, "8080"); got.GetName() != "admin" {
		t.Errorf("by number: %v", got)
	}
	if got := PortNamed(&v1alpha1.AppSpec{Ports: ports}, "quic"); got != nil {
		t.Errorf("UDP: %v", got)
	}
}

// TestEveryTextFieldIsOneLine: what ends a line is refused.
func TestEveryTextFieldIsOneLine(t *testing.T) {
	for _, line := range []string{"a\nb", "a\rb", "a\x1b[2Jb", "a\u2028b", "a\u0085b"} {
		var p problems
		checkLine(&p, line, false, "x")
		if len(p.errs) != 1 {
			t.Errorf("%q passed", line)
		}
	}
}

func TestNamesOfKinds(t *testing.T) {
	reg := Registry()
	for kind, want := range map[string]string{
		"Vhost":     "",
		"Namespace": `metadata.name: found "a.b"; allowed is ` + labelRule,
		"App":       `spec.hostname: found "a.b"; allowed is ` + labelRule + " (the default is metadata.name: set spec.hostname)",
		"Bridge":    `spec.interfaceName: found "a.b"; allowed is ` + ifaceWords + " (the default is metadata.name: set spec.interfaceName)",
	} {
		k, _ := reg.Get(kind)
		obj, err := resource.DecodeJSON(reg, []byte("apiVersion: proximity/v1alpha1\nkind: "+kind+"\nmetadata: {name: a.b}\n"+valid[kind]))
		if err != nil {
			t.Fatal(err)
		}
		if k.Namespaced {
			obj.GetMetadata().Namespace = "default"
		}
		if k.Default != nil {
			k.Default(obj)
		}
		if got := k.Check(obj).Error(); got != want {
			t.Errorf("%s: got %s\nwant %s", kind, got, want)
		}
	}
}
