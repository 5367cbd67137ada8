package appliance

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// stringFields finds every string of an Input, so that a field added later is attacked
// without anyone thinking of it.
func stringFields(v reflect.Value, path string, found map[string]reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			stringFields(v.Elem(), path, found)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() { // headers: the key and the value of a map of text
			found[path+"{key}"] = reflect.ValueOf(mapEntry{v, k, true})
			found[path+"{value}"] = reflect.ValueOf(mapEntry{v, k, false})
		}
	case reflect.String:
		found[path] = v
	case reflect.Struct:
		if v.Type().PkgPath() != reflect.TypeFor[Input]().PkgPath() {
			return // netip values cannot hold arbitrary text
		}
		for i := range v.NumField() {
			stringFields(v.Field(i), path+"."+v.Type().Field(i).Name, found)
		}
	case reflect.Slice:
		for i := range v.Len() {
			stringFields(v.Index(i), fmt.Sprintf("%s[%d]", path, i), found)
		}
	}
}

// spoil puts a value into the n-th string field of a full Input.
func spoil(in *Input, n int, value string) (field string) {
	found := map[string]reflect.Value{}
	stringFields(reflect.ValueOf(in).Elem(), "Input", found)
	names := slices.Sorted(maps.Keys(found))
	field = names[n%len(names)]
	if e, ok := found[field].Interface().(mapEntry); ok {
		e.set(value)
		return field
	}
	found[field].SetString(value)
	return field
}

// mapEntry is a key or a value of a map of text.
type mapEntry struct {
	in, at reflect.Value
	key    bool
}

func (e mapEntry) set(text string) {
	value := e.in.MapIndex(e.at)
	if !e.key {
		e.in.SetMapIndex(e.at, reflect.ValueOf(text))
		return
	}
	e.in.SetMapIndex(e.at, reflect.Value{})
	e.in.SetMapIndex(reflect.ValueOf(text), value)
}

// hostile are the pieces that mean something in one of the languages.
var hostile = []string{
	"\n", "\r", "\r\n", "\x00", "\x1b", " ", "\t", ";", "#", "\"", "'", "\\", "{", "}", "{env.HOME}", "$(id)", "`id`", "%0a", "%s",
	"server=6.6.6.6", "\ndhcp-script=/bin/sh", "\naccept\n", "\nExecStart=/bin/sh", ",", "=", "/", "//", "..", "*", "*.", "@", ":", "::1",
	"é", "ſ", "K", "\u2028", "\ufeff", "a", "web", "10.20.0.5", "80", "-", "_", ".", "xn--", "http://", "https://", "file ", "end",
	strings.Repeat("a", 64), strings.Repeat("a.", 130),
}

func TestNoFieldCanAddAStatement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkSpoiled(t, everything()) })
}

func TestNoFieldCanAddAStatementOnAlpine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkSpoiled(t, onAlpine()) })
}

func checkSpoiled(t *rapid.T, in Input) {
	for range rapid.IntRange(1, 3).Draw(t, "fields") {
		value := strings.Join(rapid.SliceOfN(rapid.SampledFrom(hostile), 1, 4).Draw(t, "value"), "")
		if rapid.Bool().Draw(t, "keep the beginning") {
			value = "web" + value
		}
		spoil(&in, rapid.IntRange(0, 1000).Draw(t, "field"), value)
	}
	if err := checkStatements(in); err != nil {
		t.Fatal(err)
	}
}

func FuzzRender(f *testing.F) {
	for i, piece := range hostile {
		f.Add(i, piece)
	}
	f.Fuzz(func(t *testing.T, n int, value string) {
		for _, in := range []Input{everything(), onAlpine()} {
			field := spoil(&in, max(n, -n, 0), value)
			if err := checkStatements(in); err != nil {
				t.Fatalf("%s = %q: %v", field, value, err)
			}
		}
	})
}

// checkStatements renders and holds every file to a grammar of whole lines that is
// written down here independently of the renderers. Refusing is fine; a file with one
// line that the grammar lacks, or one too many, is not.
func checkStatements(in Input) error {
	b, err := Render(in)
	if err != nil {
		if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x2028 }) {
			return fmt.Errorf("error with control characters: %q", err)
		}
		return nil
	}
	for _, r := range b.Rejected {
		if strings.ContainsFunc(r.Reason, func(r rune) bool { return r < ' ' || r > '~' }) {
			return fmt.Errorf("reason is not plain text: %q", r.Reason)
		}
	}
	paths := map[string]bool{}
	for _, f := range append(b.Files, File{Path: ManifestPath, Content: b.manifest}) {
		if paths[f.Path] || !pathGrammar.MatchString(f.Path) {
			return fmt.Errorf("path %q comes twice or is outside", f.Path)
		}
		paths[f.Path] = true
		switch {
		case f.Path == AgentPath, f.Path == DNSQueryPath, f.Path == DNSWANQueryPath, f.Path == ACMERootPath && isPEM(f.Content), strings.HasSuffix(f.Path, ".service"):
			continue // constant, or held elsewhere
		case f.Path == VhostsPath:
			err = checkCaddy(f.Content, routesOf(b))
		case f.Path == ProxyPath:
			err = checkCaddy(f.Content, 3)
		case f.Path == TablePath:
			err = checkTable(f.Content, vhostsOf(b))
		default:
			err = checkLines(f)
		}
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", f.Path, err, f.Content)
		}
	}
	return nil
}

const (
	gName  = `[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*`
	gIP    = `[0-9]{1,3}(\.[0-9]{1,3}){3}`
	gNet   = gIP + `/[0-9]{1,2}`
	gNets  = gNet + `(, ` + gNet + `)*`
	gIf    = `[a-z][a-z0-9]{0,14}`
	gMAC   = `[0-9a-f]{2}(:[0-9a-f]{2}){5}`
	gIdent = `[A-Za-z0-9._-]+`
	gHash  = `[0-9a-f]{64}`

	gRefuse = ` -j REJECT --reject-with icmp-admin-prohibited`
	gKnown  = `-A PROXIMITY-(IN|FWD) -m conntrack --ctstate (RELATED,ESTABLISHED -j ACCEPT|INVALID -j DROP)`
	gSelf   = `-A PROXIMITY-SELF -p tcp -m tcp ! --dport 53 -m owner --uid-owner @PROXY@ -m addrtype --dst-type LOCAL -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset`
	gServed = `-A PROXIMITY-IN -i ` + gIf + ` -p (tcp -m multiport --dports 80,443|(tcp|udp) --dport 53) -j ACCEPT`

	tableFirst = `\{"entries":[0-9]+,"version":"[0-9a-f]{32}","check":"proximity-table\.invalid"\}`
	tableID    = `[a-z0-9-]+/` + gName
)

var pathGrammar = regexp.MustCompile(`\A(/etc/proximity/((dhcp-hosts\.d/|hosts\.d/(app|vhost)\.)[a-z0-9.-]+|[a-z-]+(\.[a-z6]+)?)|/etc/systemd/system/proximity-[a-z-]+\.service|/etc/init.d/proximity-[a-z-]+|/usr/local/lib/proximity/agent)\z`)

// grammars: per file the lines that may appear, each with how often at most (0 = any).
var grammars = map[string]map[string]int{
	DNSMasqPath: {
		`interface=` + gIf: 1, `except-interface=lo`: 1, `bind-dynamic`: 1, `user=dnsmasq`: 1,
		`pid-file=/run/proximity-dnsmasq.pid`: 1, `log-facility=-`: 1, `log-async=25`: 1, `dhcp-authoritative`: 1, `no-ping`: 1,
		`dhcp-range=` + gIP + `,` + gIP + `,` + gIP + `,[0-9]+`: 1,
		`dhcp-option=option:(router|dns-server),` + gIP:         2, `dhcp-option=option:domain-search,` + gName: 1,
		`dhcp-hostsdir=/etc/proximity/dhcp-hosts.d`: 1, `dhcp-leasefile=/var/lib/proximity/dnsmasq.leases`: 1,
		`dhcp-lease-max=[0-9]+`: 1, `dhcp-ignore-names`: 1, `domain=` + gName: 1,
		`local=/` + gName + `/`: 6, `address=/` + gName + `/` + gIP: 1, `no-hosts`: 1, `hostsdir=/etc/proximity/hosts.d`: 1,
		`host-record=` + gName + `,` + gIP: 1, `domain-needed`: 1, `bogus-priv`: 1, `dns-loop-detect`: 1, `cache-size=2000`: 1,
		`dns-forward-max=300`: 1, `no-resolv`: 1, `server=[0-9a-f.:]+`: 2, `txt-record=_config\.` + gName + `,[0-9a-f]{32}`: 1,
	},
	DHCPHostsDir + "/": {gMAC + `,` + gIP + `,[0-9]+`: 1},
	HostsDir + "/":     {gIP + `( ` + gName + `)+`: 1},
	SysctlPath:         {`net\.ipv4\.conf\.all\.(accept|send)_redirects=0`: 2, `net\.ipv4\.ip_forward=[01]`: 1},
	ProbesPath:         {`(http|tcp) ` + gIP + `:[0-9]+ /[!-~]* [a-z0-9.:-]+ [A-Za-z0-9][A-Za-z0-9./_:-]*`: 3},
	ManifestPath: {
		`protocol 2`: 1, `hash ` + gHash: 1, `address ` + gIP: 1, `dns-proof [0-9a-f]{64}`: 1, `(stock|proxy)-proof [0-9a-f]{32}`: 2, `table [0-9a-f]{32}`: 1,
		`file ` + gHash + ` 0(640|644|755) (dnsmasq|dns-wan|cockpit|journal|hosts|caddy|proxy|table|nat|unit|data) [/a-z0-9.-]+`: 0,
	},
	DNSWANPath: {
		`interface=` + gIf: 1, `except-interface=lo`: 1, `bind-dynamic`: 1, `user=dnsmasq`: 1, `pid-file=/run/proximity-dnsmasq-wan.pid`: 1,
		`log-facility=-`: 1, `no-resolv`: 1, `no-hosts`: 1, `server=/` + gName + `/` + gIP: 5, `cache-size=0`: 1, `dns-forward-max=150`: 1,
	},
	LogSizePath: {`[0-9]+ bytes for each file of a log`: 1},
	"/etc/init.d/": {
		`#!/sbin/openrc-run`: 1, `# Firewall, masquerade and forwarding\.`: 1, `name="proximity-[a-z-]+"`: 1, `supervisor=supervise-daemon`: 1, `command=/bin/sh`: 1,
		`command_args="/usr/local/lib/proximity/agent become (dnsmasq|dnsmasq-wan|caddy|nat)"`: 1, `respawn_delay=1`: 1, `respawn_max=0`: 1,
		`retry="TERM/5/KILL/2"`: 1, `rc_ulimit="-n 65536"`: 1, `depend\(\) {`: 1, `\tuse net`: 1, `\tafter bootmisc firewall`: 1, `}`: 1,
	},
	CockpitPath: {
		`\[Socket\]`: 1, `ListenStream=(` + gIP + `:9090)?`: 2, `FreeBind=yes`: 1, `ListenStream=/run/proximity-cockpit.sock`: 1, `SocketUser=caddy`: 1, `SocketMode=0600`: 1,
	},
	CockpitConfPath: {
		`\[WebService\]`: 1, `Origins =( https://` + gName + `)+ https://` + gIP + `:9090 https://` + gName + `:9090`: 1, `ProtocolHeader = X-Forwarded-Proto`: 1,
		`ForwardedForHeader = X-Forwarded-For`: 1,
	},
	JournalPath: {
		`\[Journal\]`: 1, `Storage=persistent`: 1, `System(MaxUse|MaxFileSize)=[0-9]+M`: 2, `RateLimit(IntervalSec=30s|Burst=20000)`: 2,
	},
	IPTablesPath: {
		`\*(filter|raw|nat)`: 3, `COMMIT`: 3, `:PROXIMITY-(IN|FWD|FORBIDDEN|ALLOWED|CLOSED|WAN|EGRESS|OPEN|SENDER|SELF|DNAT|SNAT|` + gIP + `) - \[0:0\]`: 14,
		`-I (INPUT 1 -j PROXIMITY-IN|FORWARD 1 -j PROXIMITY-FWD|OUTPUT 1 -j PROXIMITY-SELF|PREROUTING 1 -j PROXIMITY-(SENDER|DNAT)|POSTROUTING 1 -j PROXIMITY-SNAT)`: 6, gSelf: 1,
		gKnown: 4, `-A PROXIMITY-(IN|FWD) -j DROP`: 2, `-A PROXIMITY-IN -i lo -j ACCEPT`: 1, gServed: 4,
		`-A PROXIMITY-IN -i ` + gIf + ` -p udp (--dport 67|--sport 67 --dport 68) -j ACCEPT`: 2, `-A PROXIMITY-IN ! -s ` + gNet + ` -i ` + gIf + ` -j DROP`: 1,
		`-A PROXIMITY-IN -i ` + gIf + ` -p icmp -j ACCEPT`: 2, `-A PROXIMITY-IN -i ` + gIf + ` -s (@WAN@|` + gNet + `) -p (tcp|udp) --dport 53 -j ACCEPT`: 4,
		`-A PROXIMITY-IN -i ` + gIf + ` -d ` + gIP + `/32 -p tcp --dport 9090 -j ACCEPT`: 1,
		`-A PROXIMITY-(FORBIDDEN|CLOSED|WAN) -d (@WAN@|` + gNet + `)` + gRefuse:          13, `-A PROXIMITY-ALLOWED -d ` + gNet + ` -j PROXIMITY-OPEN`: 2,
		`-A PROXIMITY-FWD -s ` + gNet + ` -i ` + gIf + ` -o ` + gIf + ` -j PROXIMITY-EGRESS`: 1, `-A PROXIMITY-FWD -i ` + gIf + ` -o ` + gIf + ` -m conntrack --ctstate DNAT -j ACCEPT`: 1,
		`-A PROXIMITY-EGRESS -j PROXIMITY-(FORBIDDEN|ALLOWED|CLOSED|WAN|OPEN)`: 5, `-A PROXIMITY-EGRESS -s ` + gIP + `/32 -j PROXIMITY-` + gIP: 2,
		`-A PROXIMITY-OPEN -m conntrack --ctstate NEW -m connlimit --connlimit-above [0-9]+ --connlimit-mask 32 --connlimit-saddr` + gRefuse: 1, `-A PROXIMITY-OPEN -j ACCEPT`: 1,
		`-A PROXIMITY-` + gIP + `( -d ` + gNet + `)?( -p (tcp|udp))?( -m multiport --dports [0-9]+(,[0-9]+)*)?( -j RETURN|` + gRefuse + `)`: 6,
		`-A PROXIMITY-SENDER ! -i ` + gIf + ` -j RETURN`: 1, `-A PROXIMITY-SENDER -p udp --sport 68 --dport 67 -j RETURN`: 1,
		`-A PROXIMITY-SENDER -s ` + gIP + `/32 -m mac --mac-source ` + gMAC + ` -j RETURN`: 2, `-A PROXIMITY-SENDER -m mac --mac-source ` + gMAC + ` -j DROP`: 2,
		`-A PROXIMITY-SENDER -s ` + gIP + `/32 -j DROP`: 3, `-A PROXIMITY-SNAT -s ` + gNet + ` -o ` + gIf + ` -j MASQUERADE`: 1,
		`-A PROXIMITY-DNAT -i ` + gIf + `( -s ` + gNet + `)? -m addrtype --dst-type LOCAL -p (tcp|udp) --dport [0-9]+ -j DNAT --to-destination ` + gIP + `:[0-9]+`: 2,
	},
	IP6TablesPath: {
		`# Firewall of IPv6 where there is no nft; loaded by [a-z.-]+`: 1,
		`\*filter`: 1, `COMMIT`: 1, `:PROXIMITY-(IN|FWD|SELF) - \[0:0\]`: 3, `-I (INPUT 1 -j PROXIMITY-IN|FORWARD 1 -j PROXIMITY-FWD|OUTPUT 1 -j PROXIMITY-SELF)`: 3, gSelf: 1,
		gKnown: 2, `-A PROXIMITY-(IN|FWD) -j DROP`: 2, `-A PROXIMITY-IN (-i lo|-p ipv6-icmp) -j ACCEPT`: 2, gServed: 4,
	},
	NATPath: {
		`# wan=` + gIf: 1, `table inet proximity`: 1, `delete table inet proximity`: 1, `table inet proximity {`: 1, `}`: 1, `\t}`: 0,
		`\tset (forbidden|allowed|closed|wan|conns) {`: 5, `\t\ttype ipv4_addr`: 6, `\t\tflags interval`: 4, `\t\tauto-merge`: 4,
		`\t\telements = { ` + gNets + ` }`: 3, `\tchain (input|forward|egress|open|prerouting|postrouting|guest(_[0-9]+){4}) {`: 8,
		`\t\ttype filter hook (input|forward) priority filter; policy drop;`: 2, `\t\ttype nat hook (postrouting priority srcnat|prerouting priority dstnat); policy accept;`: 2,
		`\t\tct state established,related accept`: 2, `\t\tct state invalid drop`: 2, `\t\tiifname "lo" accept`: 1,
		`\t\tmeta l4proto ipv6-icmp accept`: 1, `\t\tiifname "` + gIf + `" udp dport 67 accept`: 1,
		`\t\tiifname "` + gIf + `" ip saddr != ` + gNet + ` drop`:                                      1,
		`\t\tiifname { "` + gIf + `", "` + gIf + `" } (ip protocol icmp|tcp dport { 80, 443 }) accept`: 2,
		`\t\tiifname "` + gIf + `" meta l4proto { tcp, udp } th dport 53 accept`:                       1,
		`\t\tiifname "` + gIf + `" udp sport 67 udp dport 68 accept`:                                   1,
		`\t\tiifname "` + gIf + `" oifname "` + gIf + `" ip saddr ` + gNet + ` jump egress`:            1,
		`\t\tip daddr @(forbidden|closed|wan) reject with icmpx admin-prohibited`:                      3,
		`\t\tip daddr @allowed jump open`:                                                              1, `\t\tjump open`: 1, `\t\taccept`: 1, `\t\toifname "` + gIf + `" ip saddr ` + gNet + ` masquerade`: 1,
		`\t\tsize [0-9]+`: 1, `\t\tflags dynamic`: 1,
		`\t\tct state new add @conns { ip saddr ct count over [0-9]+ } reject with icmpx admin-prohibited`: 1,
		`\tset (guests|guest_macs|guest_addresses) {`:                                                      3, `\t\ttype ether_addr . ipv4_addr`: 1, `\t\ttype ether_addr`: 1, `\tchain sender {`: 1,
		`\t\telements = { ` + gMAC + ` . ` + gIP + `(, ` + gMAC + ` . ` + gIP + `)* }`: 1, `\t\telements = { ` + gMAC + `(, ` + gMAC + `)* }`: 1,
		`\t\telements = { ` + gIP + `(, ` + gIP + `)* }`: 1, `\t\ttype filter hook prerouting priority raw; policy accept;`: 1,
		`\t\tiifname != "` + gIf + `" accept`: 1, `\t\tudp sport 68 udp dport 67 accept`: 1, `\t\tether saddr \. ip saddr @guests accept`: 1,
		`\t\tether saddr @guest_macs meta protocol ip drop`: 1, `\t\tip saddr @guest_addresses drop`: 1, `\t\tip saddr ` + gIP + ` drop`: 1,
		`\tset proxy {`: 1, `\t\ttypeof meta skuid`: 1, `\tchain self {`: 1, `\t\ttype filter hook output priority filter; policy accept;`: 1,
		`\t\tmeta skuid @proxy fib daddr type local ct state new tcp dport != 53 reject with tcp reset`: 1,
		// What only some appliances have.
		`\t\tiifname "` + gIf + `" ip daddr ` + gIP + ` tcp dport 9090 accept`:                                     1,
		`\t\tiifname "` + gIf + `" ip saddr (@wan|{ ` + gNets + ` }) meta l4proto { tcp, udp } th dport 53 accept`: 1,
		`\t\tiifname "` + gIf + `" oifname "` + gIf + `" ct status dnat accept`:                                    1,
		`\t\tip saddr vmap @egress_of`: 1,
		`\tmap egress_of {`:            1,
		`\t\ttype ipv4_addr : verdict`: 1,
		`\t\telements = { ` + gIP + ` : jump guest(_[0-9]+){4}(, ` + gIP + ` : jump guest(_[0-9]+){4})* }`:                                          1,
		`\t\t(ip daddr ` + gNet + ` )?((tcp|udp) dport { [0-9]+(, [0-9]+)* } |meta l4proto (tcp|udp) )?(return|reject with icmpx admin-prohibited)`: 6,
		`\t\tiifname "` + gIf + `"( ip saddr { ` + gNets + ` })? fib daddr type local (tcp|udp) dport [0-9]+ dnat ip to ` + gIP + `:[0-9]+`:         2,
	},
}

// headerLines are the comments that every file but the one-line ones begins with.
var headerLines = map[string]int{
	`# (DHCP|DNS|Firewall|Kernel|What|The) [A-Za-z ,;.-]+`:                               1,
	`# Written by Proximity from the Appliance ` + gName + `; changes are overwritten\.`: 1,
	`# (proximity )?installation=` + gIdent + ` appliance=` + gIdent:                     1,
}

var compiled = map[string]*regexp.Regexp{}

func whole(pattern string) *regexp.Regexp {
	if compiled[pattern] == nil {
		compiled[pattern] = regexp.MustCompile(`\A` + strings.NewReplacer(" {", ` \{`, "{ ", `\{ `, " }", ` \}`).Replace(pattern) + `\z`)
	}
	return compiled[pattern]
}

func init() { // FuzzRender runs in parallel: compile before
	for _, g := range grammars {
		for p := range g {
			whole(p)
		}
	}
	for p := range headerLines {
		whole(p)
	}
	whole(tableFirst)
	whole(tableID)
}

func checkLines(f File) error {
	grammar, ok := grammars[f.Path]
	if !ok {
		grammar, ok = grammars[f.Path[:strings.LastIndexByte(f.Path, '/')+1]]
	}
	if !ok {
		return fmt.Errorf("no grammar")
	}
	text, ok := strings.CutSuffix(string(f.Content), "\n")
	if !ok {
		return fmt.Errorf("does not end in a newline")
	}
	count := map[string]int{}
	for _, line := range strings.Split(text, "\n") {
		pattern, limit := match(line, grammar)
		if pattern == "" && line != "" {
			return fmt.Errorf("no such statement: %q", line)
		}
		if count[pattern]++; limit > 0 && count[pattern] > limit {
			return fmt.Errorf("%d times: %q", count[pattern], line)
		}
	}
	return nil
}

func match(line string, grammar map[string]int) (pattern string, limit int) {
	for _, g := range []map[string]int{grammar, headerLines} {
		for pattern, limit := range g {
			if whole(pattern).MatchString(line) {
				return pattern, limit
			}
		}
	}
	return "", 0
}

// tableLines are the Vhosts of a bundle as the table has them.
func tableLines(b Bundle) (lines []tableLine) {
	for _, f := range b.Files {
		if f.Path != TablePath {
			continue
		}
		for i, text := range strings.Split(strings.TrimSuffix(string(f.Content), "\n"), "\n") {
			var line tableLine
			if i > 0 && json.Unmarshal([]byte(text), &line) == nil {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

func vhostsOf(b Bundle) int { return len(tableLines(b)) }

// routesOf counts the routes of a stock Caddy: one for the whole names of a Vhost and one for
// its wildcards, and our two.
func routesOf(b Bundle) int {
	n := 2
	for _, line := range tableLines(b) {
		whole, wild := 0, 0
		for _, h := range line.Hosts {
			if strings.HasPrefix(h, "*.") {
				wild = 1
			} else {
				whole = 1
			}
		}
		n += whole + wild
	}
	return n
}

// isPEM: nothing but certificates.
func isPEM(content []byte) bool {
	return pemRE.Match(content)
}

var pemRE = regexp.MustCompile(`\A(-----BEGIN (CERTIFICATE|[A-Z ]*PRIVATE KEY)-----\n([A-Za-z0-9+/=]+\n)+-----END (CERTIFICATE|[A-Z ]*PRIVATE KEY)-----\n)+\z`)

// checkCaddy walks the JSON: the shape must be that of the renderer.
func checkCaddy(content []byte, routes int) error {
	var config map[string]any
	if err := json.Unmarshal(content, &config); err != nil {
		return err
	}
	if n := len(dig(config, "apps", "http", "servers", "http", "routes").([]any)); n != routes {
		return fmt.Errorf("%d routes, want %d", n, routes)
	}
	return checkJSON(config)
}

// checkTable holds each line of the table to what a Vhost may be.
func checkTable(content []byte, vhosts int) error {
	first, rest, _ := strings.Cut(string(content), "\n")
	if !whole(tableFirst).MatchString(first) {
		return fmt.Errorf("first line %q", first)
	}
	lines := strings.SplitAfter(rest, "\n")
	lines = lines[:len(lines)-1]
	if len(lines) != vhosts || !strings.HasPrefix(first, fmt.Sprintf(`{"entries":%d,`, vhosts)) {
		return fmt.Errorf("%d lines after %s, want %d", len(lines), first, vhosts)
	}
	for _, text := range lines {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			return err
		}
		if key, _ := line["id"].(string); !whole(tableID).MatchString(key) {
			return fmt.Errorf("id of %q", text)
		}
		if err := checkJSON(line); err != nil {
			return err
		}
	}
	return nil
}

var (
	placeholders = regexp.MustCompile(`\{http\.(error\.status_(code|text)|request\.(host|hostport|uri|method)|reverse_proxy\.header\.[A-Za-z0-9-]+)\}`)
	// Text of a header or page may hold anything but the braces of a placeholder.
	harmless = regexp.MustCompile(`\A([^{}\x00-\x08\x0b\x0c\x0e-\x1f\\]|\\[{}]|\\)*\z`)
)

// checkJSON: the keys must be ours, the strings harmless, and placeholders only those of our
// own texts.
func checkJSON(v any) error {
	known := map[string]bool{}
	for _, k := range strings.Fields(`accounts active algorithm authentication basic certificate deferred delete expect_status
		expect_statuses handle_response hash hash_cache http_basic insecure_skip_verify interval key key_name least_conn load_pem log_skip logs max_size
		method not password propagation_delay propagation_timeout provider providers realm request resolvers response response_header_timeout rewrite
		server server_name set skip_log status strip_path_prefix timeout trusted_roots_pem_files uri username vars versions weights dns
		X-Forwarded-Method X-Forwarded-Uri Retry-After Cache-Control @id acme admin apps automate automatic_https automation backend body ca certificate_authorities
		certificates challenges config dial dial_timeout disable disabled email errors fail_duration file file_system grace_period group
		handle handler headers health_checks host hosts http https id idle_timeout install_trust internal issuers listen load_balancing local
		Location Content-Type match max_fails module name on_demand origins passive path permission persist pki policies policy protocol protocols
		proximity_vhosts ranges read_header_timeout remote_ip root routes selection_policy servers status_code storage subjects terminal tls tls-alpn
		tls_connection_policies transport try_duration try_interval upstreams`) {
		known[k] = true
	}
	return walk(v, "", func(in string, key bool, s string) error {
		switch {
		case key && in == "set" && headerNameRE.MatchString(s), key && in == "vars" && placeholders.MatchString(s):
		case key && !known[s]:
			return fmt.Errorf("unknown key %q", s)
		case !key && !harmless.MatchString(placeholders.ReplaceAllString(s, "")):
			return fmt.Errorf("wild string %q", s)
		}
		return nil
	})
}

func dig(v any, path ...string) any {
	for _, p := range path {
		v = v.(map[string]any)[p]
	}
	return v
}

// walk visits all strings and keys of a value, with the key that what they are in has.
func walk(v any, in string, visit func(in string, key bool, s string) error) error {
	switch v := v.(type) {
	case string:
		return visit(in, false, v)
	case []any:
		for _, e := range v {
			if err := walk(e, in, visit); err != nil {
				return err
			}
		}
	case map[string]any:
		for k, e := range v {
			if err := visit(in, true, k); err != nil {
				return err
			}
			if err := walk(e, k, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// A test of the test: the grammar notices an added statement in each kind of file.
func TestTheGrammarNotices(t *testing.T) {
	b := mustRender(t, everything())
	for path, extra := range map[string]string{
		DNSMasqPath:                     "server=6.6.6.6\nserver=7.7.7.7\n",
		NATPath:                         "\t\taccept\n",
		ProbesPath:                      "exec rm\n",
		SysctlPath:                      "kernel.core_pattern=|/bin/sh\n",
		HostsDir + "/app.default.web":   "10.0.0.1 bank.example\n",
		DHCPHostsDir + "/default.web":   "02:00:00:00:00:09,10.40.0.99,60\n",
		HostsDir + "/vhost.default.web": "# comment\n",
	} {
		if err := checkLines(File{Path: path, Content: []byte(contentOf(t, b, path) + extra)}); err == nil {
			t.Errorf("%s: %q was not noticed", path, extra)
		}
	}
	caddy := contentOf(t, b, VhostsPath)
	for _, change := range [][2]string{{`"install_trust"`, `"install_trusts"`}, {`"dial": "10.40.0.10:80"`, `"dial": "{env.HOME}"`}} {
		if spoiled := strings.Replace(caddy, change[0], change[1], 1); spoiled == caddy || checkCaddy([]byte(spoiled), routesOf(b)) == nil {
			t.Errorf("%s was not noticed", change[1])
		}
	}
	table := contentOf(t, b, TablePath)
	for _, change := range [][2]string{{`"entries":7`, `"entries":6`}, {`"tls":true`, `"env":true`}, {`"dial":"10.40.0.10:80"`, `"dial":"{env.HOME}"`}, {`"id":"shop/`, `"id":"shop `}} {
		if spoiled := strings.Replace(table, change[0], change[1], 1); spoiled == table || checkTable([]byte(spoiled), vhostsOf(b)) == nil {
			t.Errorf("%s was not noticed", change[1])
		}
	}
	if checkTable([]byte(table+"{}\n"), vhostsOf(b)) == nil {
		t.Error("a line more in the table was not noticed")
	}
}
