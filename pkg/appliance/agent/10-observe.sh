
# --- observe

# Commands the guest needs, each with its Debian package.
NEEDED='dnsmasq:dnsmasq-base nft:nftables caddy:caddy curl:curl ip:iproute2 bash:bash'

# missing_ui: what the management UI lacks, if there is to be one. Everything else works without.
missing_ui() {
	if has_cockpit && [ ! -x /usr/lib/cockpit/cockpit-ws ]; then echo 'missing cockpit-ws cockpit-ws'; fi
	if has_cockpit && [ ! -d /usr/share/cockpit/systemd ]; then echo 'missing cockpit-system cockpit-system'; fi
	if has_cockpit && ! command -v cockpit-bridge >/dev/null; then echo 'missing cockpit-bridge cockpit-bridge'; fi
}

missing_commands() {
	for pair in $NEEDED; do
		command -v "${pair%%:*}" >/dev/null || echo "missing ${pair%%:*} ${pair#*:}"
	done
}

# A guest that gets little processor time is slow and not broken: what asks the manager or the kernel has
# longer than what asks a service whose answer clients wait for.
show_services() {
	# shellcheck disable=SC2046 # a list
	timeout 6 systemctl show -p Id -p ActiveState -p UnitFileState -p MainPID -p NRestarts $(services) 2>/dev/null |
		awk -F= '
		{ v[$1] = $2 }
		function flush() { if (v["Id"] != "") print "service", v["Id"], v["ActiveState"] == "" ? "unknown" : v["ActiveState"],
			v["UnitFileState"] == "enabled" ? "enabled" : "disabled", v["MainPID"] + 0, v["NRestarts"] + 0; split("", v) }
		$0 == "" { flush() }
		END { flush() }'
}

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

probe_tcp() {
	grep -q '^tcp ' $ETC/probes 2>/dev/null || return 0
	# shellcheck disable=SC2016 # expanded by that bash
	awk '$1 == "tcp" { split($2, a, ":"); print a[1], a[2], $5 }' $ETC/probes | timeout 2.3 bash -c '
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

# boot_id: the kernel's boot and, because a guest reboots without it, the start of init.
boot_id() {
	stat=$(cat /proc/1/stat)
	# shellcheck disable=SC2086 # words
	set -- ${stat##*) }
	printf '%s.%s' "$(cat /proc/sys/kernel/random/boot_id)" "${20}"
}

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
