
# --- apply: from files on disk to running services

# reservations <etc>: "<mac> <address>" of each guest.
reservations() {
	find "$1/dhcp-hosts.d" -type f -print0 2>/dev/null | xargs -0 -r cat | awk -F, 'NF == 3 && $1 !~ /^#/ { print $1, $2 }'
}

# stale_leases <stage>: "<mac> <address>" of leases that would keep a reserved address
# from its owner, or that belong to a guest that goes with this apply. dnsmasq never
# gives up a lease by itself before its time.
stale_leases() {
	[ -s $LEASES ] || return 0
	{ reservations $ETC | sed 's/^/old /'; reservations "$1/files$ETC" | sed 's/^/new /'; sed 's/^/lease /' $LEASES; } | awk '
		$1 == "old" { old[$2] = 1 }
		$1 == "new" { new[$2] = 1; owner[$3] = $2 }
		$1 == "lease" && NF >= 5 && (($4 in owner && owner[$4] != $3) || ($3 in old && !($3 in new))) { print $3, $4 }'
}

# service <verb> <unit>: with its last words when that fails.
service() {
	echo "action $1 $2"
	out=$(manage "$1" "$2" 2>&1) && return 0
	{ printf '%s\n' "$out"; last_words "$2" 8; } | problem "$2"
	return 1
}

# drop_leases: the leases that an apply wants gone. dnsmasq has them in memory while it runs, so
# its service manager does it between one dnsmasq and the next: an agent that dies meanwhile
# leaves nothing stopped.
drop_leases() {
	[ -s $DROP ] || return 0
	awk -v leases=$LEASES '
		{ drop[$1 " " $2] = 1 }
		END { while ((getline line < leases) > 0) { split(line, f, " "); if (!((f[2] " " f[3]) in drop)) print line } }' $DROP >$LEASES.new &&
		mv -f $LEASES.new $LEASES && rm -f $DROP
}

reload_dnsmasq() {
	unit=$DNSMASQ
	if [ -n "$STALE" ]; then
		printf '%s\n' "$STALE" >$DROP.new && mv -f $DROP.new $DROP || return 1
	fi
	if [ ! -s $DROP ] && active "$unit" && ! changes dnsmasq && ! changes unit "/$DNSMASQ\$" && ! pending dnsmasq && [ -z "$NEWDIRS" ] && check_dns >/dev/null; then
		# Names are read as they come; a changed or removed reservation needs a signal.
		if changes hosts dhcp-hosts || pending hosts; then
			echo "action reload $unit"
			kill -HUP "$(main_pid "$unit")"
		fi
		return 0
	fi
	service restart "$unit"
}

# dns_wan_start: the appliance's address is the one on the WAN there. The one on the LAN is whom it
# asks; the manifest, which tells it too, is not there before a first set is live.
dns_wan_start() {
	address=$(wan_address)
	[ -n "$address" ] || { echo 'problem dns-wan the interface has no address'; return 1; }
	lan=$(sed -n 's,^server=/[^/]*/,,p' $ETC/dnsmasq-wan.conf | head -n 1)
	exec dnsmasq --keep-in-foreground --conf-file=$ETC/dnsmasq-wan.conf --alias="$lan,$address"
}

reload_dns_wan() {
	has_dns_wan || return 0
	[ -n "$(wan_address)" ] || return 0 # it starts by itself when there is one
	if active "$DNS_WAN" && ! changes dns-wan && ! changes unit dnsmasq-wan && ! pending dns-wan && check_dns_wan >/dev/null; then return 0; fi
	service restart "$DNS_WAN"
}

# runs_with <file>: was this Caddy started with that configuration? After an update of its
# package it may be another than before, and take no other kind of configuration.
runs_with() { tr '\0' '\n' <"/proc/$(main_pid "$CADDY")/cmdline" 2>/dev/null | grep -qxF "$1"; }

caddy_start() { exec caddy run --config "$(caddy_config)"; }

reload_caddy() {
	unit=$CADDY
	if ! active "$unit" || changes unit caddy; then service restart "$unit"; return; fi
	config=$(caddy_config)
	part=caddy
	if [ "$config" = $ETC/proxy.json ]; then part=proxy; fi
	if ! changes $part && ! pending $part; then
		check_proxy >/dev/null && return 0
		# The proxy follows the table by itself.
		if [ $part = proxy ] && { changes table || pending table; } && wait_for check_proxy "$unit" 3 >/dev/null; then return 0; fi
	fi
	# A Caddy that does not answer, twice within a second each, takes no orders either.
	case $(check_proxy || check_proxy) in *'no answer'*'no answer'*) service restart "$unit"; return ;; esac
	runs_with "$config" || { service restart "$unit"; return; }
	echo "action reload $unit"
	# It would leave alone what it thinks it has already.
	out=$(curl -q -s --noproxy '*' --max-time 30 --unix-socket $SOCKET -H 'Host: proximity-admin' -H 'Content-Type: application/json' \
		-H 'Cache-Control: must-revalidate' -w '\n%{http_code}' --data-binary "@$config" http://proximity-admin/load)
	code=$(printf '%s\n' "$out" | tail -n 1)
	case $code in
	200) return 0 ;;
	000 | '') service restart $unit ;; # it runs, but its admin socket does not answer
	*) printf '%s\n' "$out" | sed '$d' | problem caddy; return 1 ;;
	esac
}

# iptables_text <tool> <file>: what is to be loaded, for the tables as they are now. A jump that is
# there already goes first, wherever it stands; so do chains of ours that are no part of it any more.
iptables_text() {
	timeout 6 "$1-save" 2>/dev/null | awk -v nets="$(wan_nets)" -v user="$(id -u caddy 2>/dev/null)" -v rules="$2" '
		/^\*/ { table = $1 }
		/^:PROXIMITY-/ { had[table] = had[table] " " substr($1, 2) }
		/^-A [A-Z]+ -j PROXIMITY-[A-Z]+$/ { jumps[table, $2, $4]++ }
		END {
			subnets = split(nets, subnet, ",")
			while ((getline line < rules) > 0) {
				text[++lines] = line
				if (line ~ /^\*/) table = line
				if (line ~ /^:/) { split(substr(line, 2), f, " "); want[table, f[1]] = 1 }
			}
			for (i = 1; i <= lines; i++) {
				line = text[i]
				if (line ~ /@WAN@/) {
					for (k = 1; k <= subnets; k++) { filled = line; sub(/@WAN@/, subnet[k], filled); print filled }
					continue
				}
				if (line ~ /@PROXY@/) {
					if (user == "") continue
					sub(/@PROXY@/, user, line)
				}
				if (line ~ /^-I /) {
					split(line, f, " ")
					for (k = jumps[table, f[2], f[5]]; k > 0; k--) print "-D", f[2], "-j", f[5]
				}
				if (line == "COMMIT") { printf "%s", gone; gone = "" }
				print line
				if (line ~ /^\*/) {
					table = line
					n = split(had[table], chain, " ")
					for (k = 1; k <= n; k++) if (!((table, chain[k]) in want)) { print ":" chain[k] " - [0:0]"; gone = gone "-X " chain[k] "\n" }
				}
			}
		}'
}

# load_iptables <etc> [--test]: each table in one transaction.
load_iptables() {
	for tool in $(iptables_tools); do
		# shellcheck disable=SC2086 # an option, or none
		iptables_text "$tool" "$1/nat.$tool" | timeout 10 "$tool-restore" -w 5 --noflush ${2:-} 2>&1 || return 1
	done
}

# nat_start: the rules in one transaction, then forwarding.
nat_start() {
	if uses_nft; then
		nets=$(wan_nets)
		user=$(id -u caddy 2>/dev/null)
		out=$({ cat $ETC/nat.nft; if [ -n "$user" ]; then echo "add element inet proximity proxy { $user }"; fi; if [ -n "$nets" ]; then echo "add element inet proximity wan { $nets }"; fi; } | timeout 10 nft -f - 2>&1)
	else
		: >$NAT_RECORD.iptables && out=$(load_iptables $ETC)
	fi || { printf '%s\n' "$out" | problem nat; return 1; }
	nat_form >$NAT_RECORD
	grep '^net\.ipv4\.' $ETC/sysctl.conf | while IFS='=' read -r key setting; do
		out=$(printf '%s\n' "$setting" 2>&1 >"/proc/sys/$(printf %s "$key" | tr . /)") || { printf '%s\n' "$key: $out" | problem nat; exit 1; }
	done
}

reload_nat() {
	wanted=$(sed -n 's/^net\.ipv4\.ip_forward=//p' $ETC/sysctl.conf)
	if changes nat || pending nat || ! check_nat >/dev/null || [ "$(cat /proc/sys/net/ipv4/ip_forward)" != "$wanted" ]; then
		echo 'action load nat'
		nat_start || return 1
	fi
	active "$NAT" || service start "$NAT"
}

# reload: every service as the files on disk say, touching only what has to change. The
# order is the one in which guests need it.
reload() {
	if changes unit || pending unit; then units_changed; fi
	units=$(services)
	# shellcheck disable=SC2086 # a list
	if ! at_boot $units; then
		echo 'action enable services'
		# shellcheck disable=SC2086 # a list
		start_at_boot $units 2>&1 | problem enable
	fi
	failed=
	reload_logs
	reload_nat || failed="$failed nat"
	reload_dnsmasq || failed="$failed dns"
	reload_dns_wan || failed="$failed dns-wan"
	reload_caddy || failed="$failed proxy"
	reload_cockpit || failed="$failed cockpit"
	[ -z "$failed" ]
}

# wait_for <check> <unit> <seconds>: the check's last line if it does not come true in
# that time, or earlier if the service has died and only waits to be started again.
wait_for() {
	deadline=$(($(date +%s) + $3))
	deaths=0
	until line=$($1); do
		active "$2" || deaths=$((deaths + 1))
		if [ $deaths -ge 3 ] || [ "$(date +%s)" -ge $deadline ]; then
			printf '%s\n' "$line"
			return 1
		fi
		sleep 0.1
	done
}

# verify: prints the failing checks. The times cover a start on a loaded node.
verify() {
	wait_for check_nat "$NAT" 1
	wait_for check_dns "$DNSMASQ" 4
	# Without an address there is nothing to answer at, which is no fault of this set.
	if has_dns_wan && [ -n "$(wan_address)" ]; then wait_for check_dns_wan "$DNS_WAN" 4; fi
	wait_for check_proxy "$CADDY" 6
}

# complaints <failing checks>: what their services wrote last.
complaints() {
	printf '%s\n' "$1" | while read -r name _; do
		case $name in dns) unit=$DNSMASQ ;; proxy) unit=$CADDY ;; *) continue ;; esac
		last_words "$unit" 5 | problem "$unit"
	done
}
