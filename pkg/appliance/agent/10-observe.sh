
# --- observe

DNSMASQ=proximity-dnsmasq$SUFFIX
CADDY=proximity-caddy$SUFFIX
NAT=proximity-nat$SUFFIX
DNS_WAN=proximity-dnsmasq-wan$SUFFIX # only where names are answered on the WAN interface

# services: the units of the live set.
services() {
	echo "$DNSMASQ $CADDY $NAT"
	if has_dns_wan; then echo "$DNS_WAN"; fi
	if has_cockpit; then echo cockpit.socket; fi
}
has_cockpit() { [ -e $ETC/cockpit-socket.conf ]; }
has_dns_wan() { [ -e $ETC/dnsmasq-wan.conf ]; }

# shellcheck disable=SC2046 # a list
show_services() { service_lines $(services); }

# All HTTP probes in one curl, 200 at a time. A connection on the LAN takes no second. A probe that did not come to an end within
# the time of all has no line, and counts as unknown.
probe_http() {
	grep -q '^http ' $ETC/probes 2>/dev/null || return 0
	awk '$1 == "http" {
		if (n++) print "next"
		printf "url = \"http://%s%s\"\nheader = \"Host: %s\"\noutput = \"/dev/null\"\nsilent\ngloboff\nnoproxy = \"*\"\nconnect-timeout = 1\nmax-time = 2\n", $2, $3, $4
		printf "write-out = \"%%{exitcode} %%{http_code} %%{time_total} %s\\n\"\n", $5
	}' $ETC/probes | timeout 2.3 curl -q -Z --parallel-immediate --parallel-max 200 -K - 2>/dev/null |
		awk 'NF == 4 { ok = $1 == 0 && $2 >= 200 && $2 < 400
			printf "probe %s %s %d %d\n", $4, ok ? "ok" : "fail", $2, $3 * 1000; fflush() }'
}

# As the proxy's user, whom the rules do not let everywhere.
probe_tcp() {
	grep -q '^tcp ' $ETC/probes 2>/dev/null || return 0
	# shellcheck disable=SC2016 # expanded by that bash
	awk '$1 == "tcp" { split($2, a, ":"); print a[1], a[2], $5 }' $ETC/probes |
		setpriv --reuid caddy --regid caddy --clear-groups timeout 2.3 bash -c '
		probe() {
			local start=${EPOCHREALTIME/./} state=ok
			timeout 1 bash -c "exec 3<>/dev/tcp/\$0/\$1" "$1" "$2" 2>/dev/null || state=fail
			echo "probe $3 $state 0 $(((${EPOCHREALTIME/./} - start) / 1000))"
		}
		while read -r ip port key; do
			probe "$ip" "$port" "$key" &
			((++n % 64)) || wait
		done
		wait'
}

show_network() {
	ip -4 -o address show 2>/dev/null | awk '$2 != "lo" { print "addr", $2, $4 }'
	ip -4 route show default 2>/dev/null | awk '{ for (i = 1; i < NF; i++) if ($i == "via") { print "gateway", $(i + 1); exit } }'
	printf 'forward %s\n' "$(cat /proc/sys/net/ipv4/ip_forward 2>/dev/null || echo 0)"
}

show_leases() {
	[ -r $LEASES ] && awk 'NF >= 4 && $1 ~ /^[0-9]+$/ && $2 ~ /^[0-9a-f:]+$/ { print "lease", $1, $2, $3, $4 == "*" ? "-" : $4 }' $LEASES
}

# disk_free: KiB that are left where there is least of what is written to.
disk_free() { df -Pk / $STATE $ETC 2>/dev/null | awk 'NR > 1 && (least == "" || $4 < least) { least = $4 } END { print least + 0 }'; }

# started_at <pid>: when a process began, in ticks of the kernel. With its pid it tells it from others.
started_at() {
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	# shellcheck disable=SC2086 # words
	set -- ${stat##*) }
	echo "${20}"
}

# boot_id: the kernel's boot and, because a guest reboots without it, the start of init.
boot_id() { printf '%s.%s' "$(cat /proc/sys/kernel/random/boot_id)" "$(started_at 1)"; }

observe() { # [hash that the caller expects] [without-probes]
	printf 'proximity-agent %s %s\n' $PROTOCOL "$(hash_of <"$SELF")"
	printf 'boot %s\n' "$(boot_id)"
	hash=$(value hash)
	printf 'manifest %s\n' "${hash:-none}"
	list=$(live_list)
	set=$(if [ -n "$list" ]; then printf '%s\n' "$list"; fi | hash_of)
	printf 'set %s\n' "$set"
	if [ "$set" != "${1:-}" ] && [ -n "$list" ]; then
		printf '%s\n' "$list" | sed -n 's/^\([0-9a-f]\{64\}\)  /file \1 /p'
	fi
	# At the same time, because each may wait for its time-out; all print whole short lines.
	printf '%s\n' "$(
		show_services &
		check_dns &
		check_dns_wan &
		check_proxy &
		check_nat &
		if [ "${2:-}" != without-probes ]; then probe_http & probe_tcp & check_upstream & fi
		wait
	)"
	show_network
	show_leases
	missing_commands
	missing_ui
	printf 'disk %s\n' "$(disk_free)"
	echo end
}
