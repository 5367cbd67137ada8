#!/bin/sh
# Proximity appliance agent: runs inside the network appliance's guest, one call per
# reconcile. It keeps no state of its own beyond what apply leaves on disk.
#
#   observe [hash]         what is here; read-only, under 3 s; file lines are left out
#                          when the live set has that hash. Ends with the line "end".
#   apply <stage>|-        make the files of a stage live; - = a tar of it on stdin
#   restart <service|all>  dnsmasq, caddy, nat
#   logs <service> <n> [<priority>|-] [<cursor>|-] [<text>]   lines of the logs
#   nat-test <host> <port> <forbidden ip>
#   packages               which needed commands are missing
#   install                install what brings them
#   certificates <epoch>   what the proxy got since then, at most 200: lines "certificate <epoch>"
#                          each followed by its PEM, then "root" and that of its own CA
#   ca-root                the root certificate of the proxy's own CA
#   state-save             what a new guest needs of this one's state, as text
#   state-load             such text on stdin
#   nat-start              (proximity-nat.service) load the rules, then forward
#   drop-leases            (proximity-dnsmasq.service) forget the leases that apply wants gone
#   dns-wan-start          (proximity-dnsmasq-wan.service) become dnsmasq for the WAN interface
#   caddy-start            (proximity-caddy.service) become Caddy with its configuration
#   become <service>       (where there is no systemd) become that service, with a log
#
# Exit codes: 0 done; 64 usage; 65 damaged stage; 66 commands missing; 70/71/72 the
# staged file of dnsmasq/caddy/nft (or iptables) was refused by the tool, nothing changed; 75 another
# apply is running; 76 a file or service could not be changed; 80/81/82 after the change
# dnsmasq/caddy/nat did not work: rolled back if it had worked before.
# Every failure prints lines "problem <what> <the tool's own words>".

set -u
umask 022
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy

PROTOCOL=2
ETC=/etc/proximity
STATE=/var/lib/proximity
LIB=/usr/local/lib/proximity
READY=/etc/.proximity-ready # same file system as ETC and the family's UNITS, outside of both
MANIFEST=$ETC/manifest
CURRENT=$MANIFEST # whose settings and proofs count; apply points it at the staged one
LEASES=$STATE/dnsmasq.leases
DROP=$STATE/drop-leases # "<mac> <address>" of those to be forgotten at the next start of dnsmasq
NAT_RECORD=/run/proximity-nat.loaded
LOCK=/run/proximity-agent.lock
SOCKET=/run/proximity/caddy-admin.sock
CADDY_IS=$STATE/caddy-is # what the guest's Caddy is, see caddy_is
SELF=$0

# What differs between operating system families is in family/<name>.sh, which comes next here:
#
#   UNITS, SUFFIX             directory of the service definitions; how their names end
#   MASKED                    the distribution's own services of what ours bring
#   PRIORITIES                not empty where lines of logs have them
#   missing_commands          lines "missing <command> <package>": what the agent cannot do without
#   missing_ui                likewise for the management UI, if there is to be one
#   install_packages <list>   install them
#   mask_others <list>        stop them, and keep them from starting
#   service_lines <unit>...   lines "service <unit> <state> enabled|disabled <main pid> <restarts>"
#   active <unit>             does it run?
#   main_pid <unit>
#   manage <verb> <unit>      start, stop or restart; what is wrong on standard output
#   at_boot <unit>...         do all start at boot?
#   start_at_boot <unit>...
#   forget <unit>             stop it, its definition is about to go
#   units_changed             definitions were changed
#   last_words <unit> <n>     the last lines that it wrote
#   reload_logs               the bounds of the logs as the files say
#   reload_cockpit            likewise the management UI
#   read_logs <service> <n> <priority>|- <cursor>|-   the newest lines, then "-- cursor: <cursor>"
#   address_of <host>         its first IPv4 address
#   become <service>          what the service manager starts, where it cannot do more than that

# problem <what>: standard input, at most 20 lines, as problem lines.
problem() {
	what=$1
	grep . | head -n 20 | cut -c1-500 | sed "s/^/problem $what /"
}

die() { # <exit code> <what> <text>
	printf 'problem %s %s\n' "$2" "$3"
	exit "$1"
}

# value <name> [manifest]: one setting of a manifest.
value() {
	sed -n "s/^$1 //p" "${2:-$CURRENT}" 2>/dev/null | head -n 1
}

hash_of() { sha256sum 2>/dev/null | cut -c1-64; }

# live_list: "<sha256>  <path>" of all files in the managed directories, by path. The
# manifest is not in it: it contains the hash of this very list.
live_list() {
	{
		find "$ETC" "$LIB" \( -type f -o -type l \) ! -path "$MANIFEST" -print0
		find "$UNITS" -maxdepth 1 -name 'proximity-*' \( -type f -o -type l \) -print0
	} 2>/dev/null | sort -z | xargs -0 -r sha256sum 2>/dev/null
}

# --- Checks. Each prints one line, "<name> ok" or "<name> fail <reason>".

# A question that only the dnsmasq.conf of this manifest answers, over UDP. The guest
# has no DNS client, so the packet was made by the daemon, and bash's /dev/udp sends it.
check_dns() {
	proof=$(value dns-proof)
	if [ -z "$proof" ]; then echo 'dns fail nothing was applied'; return 1; fi
	answer=$(ask_dns "$(value address)" $ETC/dns-query.bin)
	case $answer in
	*"$proof"*) echo 'dns ok' ;;
	'') echo 'dns fail no answer'; return 1 ;;
	*) echo 'dns fail answers from another configuration'; return 1 ;;
	esac
}

# ask_dns <address> <file>: the answer to a question in hexadecimal digits.
ask_dns() {
	# shellcheck disable=SC2016 # expanded by that bash
	timeout 1 bash -c 'exec 3<>"/dev/udp/$1/53" && cat "$2" >&3 && dd bs=2048 count=1 status=none <&3' \
		dns "$1" "$2" 2>/dev/null | od -An -v -tx1 | tr -d ' \n'
}

wan_if() { sed -n 's/^# wan=//p' $ETC/nat.nft 2>/dev/null; }

# wan_address: the first address of the WAN interface.
wan_address() {
	ip -4 -o address show dev "$(wan_if)" scope global 2>/dev/null | awk '{ sub("/.*", "", $4); print $4; exit }'
}

# On the WAN interface the appliance's own name leads to the address there: whoever asks there
# cannot reach the other one. An answer that ends so comes from a dnsmasq that knows it.
check_dns_wan() {
	has_dns_wan || return 0
	address=$(wan_address)
	if [ -z "$address" ]; then echo 'dns-wan fail the interface has no address'; return 1; fi
	# shellcheck disable=SC2046,SC2183 # four numbers
	bytes=$(printf '%02x%02x%02x%02x' $(echo "$address" | tr . ' '))
	case $(ask_dns "$address" $ETC/dns-query-wan.bin) in
	*"$bytes") echo 'dns-wan ok' ;;
	'') echo 'dns-wan fail no answer'; return 1 ;;
	*) echo 'dns-wan fail answers with another address than that of the interface'; return 1 ;;
	esac
}

# check_upstream: does anybody answer questions that are not ours? It asks for the name servers of
# the root, which no cache here keeps. Twice, for a packet may be lost.
check_upstream() {
	[ -e $ETC/dnsmasq.conf ] || return 0
	if grep -q '^resolv-file=' $ETC/dnsmasq.conf && ! grep -q '^nameserver' /etc/resolv.conf 2>/dev/null; then
		echo 'upstream fail no name server is known'
		return 1
	fi
	for _ in 1 2; do
		answer=$(printf 'Pu\001\000\000\001\000\000\000\000\000\000\000\000\002\000\001' | ask_dns "$(value address)" /dev/stdin)
		case $answer in
		'') ;;
		???????2*) echo 'upstream fail the answer is SERVFAIL'; return 1 ;;
		???????5*) echo 'upstream fail the answer is REFUSED'; return 1 ;; # also dnsmasq's own, when it cannot send
		*) echo 'upstream ok'; return ;;
		esac
	done
	echo 'upstream fail no answer'
	return 1
}

# caddy_is [remember]: "ours <identity>" when this Caddy has our modules, so that Vhosts are a
# table for it, or "stock <identity>". To ask it takes a tenth of a second, so apply keeps the
# answer beside what tells one binary from another.
caddy_is() {
	identity=$(stat -L -c '%i:%s:%Y:%Z' "$(command -v caddy)" 2>/dev/null)
	case $(cat $CADDY_IS 2>/dev/null) in
	"ours $identity") echo "ours $identity"; return ;;
	"stock $identity") echo "stock $identity"; return ;;
	esac
	modules=$(timeout 20 caddy list-modules 2>/dev/null) || { echo stock; return; }
	case $modules in *dns.providers.proximity_rfc2136*http.handlers.proximity_vhosts*) is="ours $identity" ;; *) is="stock $identity" ;; esac
	[ "${1:-}" != remember ] || { printf '%s\n' "$is" >$CADDY_IS.new && mv -f $CADDY_IS.new $CADDY_IS; } 2>/dev/null
	echo "$is"
}

# has_table: does the guest's Caddy take Vhosts as a table?
has_table() { case $(caddy_is) in ours*) ;; *) return 1 ;; esac; }

# caddy_config: the file that Caddy runs with.
caddy_config() { if has_table; then echo $ETC/proxy.json; else echo $ETC/vhosts.json; fi; }

# ask_proxy <host>: what the proxy answers to this guest under a name.
ask_proxy() { curl -q -s --noproxy '*' --max-time 1 --max-filesize 65536 -H "Host: $1" http://127.0.0.1:80/; }

# Requests that only the configuration, and the table, of this manifest answer so. After "proxy
# ok" come lines "vhost <key> <reason>" for what the proxy cannot serve.
check_proxy() {
	if has_table; then proof=$(value proxy-proof); version=$(value table); else proof=$(value stock-proof); version=; fi
	if [ -z "$proof" ]; then echo 'proxy fail nothing was applied'; return 1; fi
	case $(ask_proxy proximity-check.invalid) in
	"$proof") ;;
	'') echo 'proxy fail no answer'; return 1 ;;
	*) echo 'proxy fail answers from another configuration'; return 1 ;;
	esac
	if [ -n "$version" ]; then
		answer=$(ask_proxy proximity-table.invalid | cut -c1-400 | tr -cd ' -~\n')
		if [ "$(printf '%s\n' "$answer" | head -n 1)" != "$version" ]; then echo 'proxy fail serves another table of Vhosts'; return 1; fi
		wrong=$(printf '%s\n' "$answer" | sed 1d | grep -v '^[a-z0-9.-]*/[a-z0-9.-]*: ' | head -n 1)
		if [ -n "$wrong" ]; then echo "proxy fail table of Vhosts: $wrong"; return 1; fi
	fi
	echo 'proxy ok'
	if [ -n "$version" ]; then printf '%s\n' "$answer" | sed -n '2,$s,^\([a-z0-9.-]*/[a-z0-9.-]*\): ,vhost \1 ,p'; fi
}

# wan_nets: the subnets that the WAN interface is in, sorted, separated by commas.
wan_nets() {
	ip -4 -o route show dev "$(wan_if)" scope link 2>/dev/null |
		awk '$1 ~ /^[0-9.]+(\/[0-9]+)?$/ {print $1}' | sort -u | paste -s -d, -
}

# has_firewall: is there what loads rules?
has_firewall() { command -v nft >/dev/null || command -v iptables-restore >/dev/null; }

# uses_nft: iptables is for guests that have only that. Where it has loaded rules it goes on until
# the guest boots: two sets of rules at once would be neither.
uses_nft() { command -v nft >/dev/null && ! [ -e $NAT_RECORD.iptables ]; }

# iptables_tools: one for each family of addresses that the guest has.
iptables_tools() {
	echo iptables
	if [ -d /proc/sys/net/ipv6 ] && command -v ip6tables-restore >/dev/null; then echo ip6tables; fi
}

# iptables_rules: our rules as they are loaded, and what the kernel's own chains ask first.
iptables_rules() {
	for tool in $(iptables_tools); do
		timeout 6 "$tool-save" 2>/dev/null | awk -v tool="$tool" '
			/^\*/ { table = $1 }
			/^:PROXIMITY-/ { print tool, table, $1; if ($1 == ":PROXIMITY-IN") ours = 1 }
			/^-A PROXIMITY-/ { print tool, table, $0 }
			/^-A (INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING) / && table != "*mangle" && !seen[table, $2]++ { print tool, table, $0 }
			END { exit !ours }' || return 1
	done
}

# nat_form: the rules that are loaded now, the file they should come from and the WAN's
# subnets, as one hash. nat-start records it; any difference later is drift.
nat_form() {
	[ -r $ETC/nat.nft ] || return 1
	if uses_nft; then
		rules=$(timeout 6 nft -s list table inet proximity 2>/dev/null) || return 1
		rules=$(printf '%s\n' "$rules" | sed '/^\tset conns {/,/^\t}/d') # who has connections now
	else
		rules=$(iptables_rules) || return 1
	fi
	printf '%s\n%s\n%s\n' "$rules" "$(hash_of <$ETC/nat.nft)" "$(wan_nets)" | hash_of
}

check_nat() {
	if ! form=$(nat_form); then echo 'nat missing'; return 1; fi
	if [ "$form" = "$(cat $NAT_RECORD 2>/dev/null)" ]; then echo 'nat ok'; else echo 'nat differs'; return 1; fi
}
