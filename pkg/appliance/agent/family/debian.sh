
# --- Debian: apt and systemd

UNITS=/etc/systemd/system
SUFFIX=.service
MASKED='dnsmasq.service caddy.service caddy-api.service nftables.service'
PRIORITIES=yes
JOURNAL=/etc/systemd/journald.conf.d/50-proximity.conf
COCKPIT=/etc/systemd/system/cockpit.socket.d/50-proximity.conf
COCKPIT_CONF=/etc/cockpit/cockpit.conf

# Commands the guest needs, each with its package.
NEEDED='dnsmasq:dnsmasq-base caddy:caddy curl:curl ip:iproute2 bash:bash'

missing_commands() {
	for pair in $NEEDED; do
		command -v "${pair%%:*}" >/dev/null || echo "missing ${pair%%:*} ${pair#*:}"
	done
	has_firewall || echo 'missing nft nftables'
}

# missing_ui: everything else works without.
missing_ui() {
	if has_cockpit && [ ! -x /usr/lib/cockpit/cockpit-ws ]; then echo 'missing cockpit-ws cockpit-ws'; fi
	if has_cockpit && [ ! -d /usr/share/cockpit/systemd ]; then echo 'missing cockpit-system cockpit-system'; fi
	if has_cockpit && ! command -v cockpit-bridge >/dev/null; then echo 'missing cockpit-bridge cockpit-bridge'; fi
}

# A package that is there may lack the program all the same, so it is unpacked again; apt does not
# fail when it cannot have it for that.
install_packages() {
	command -v apt-get >/dev/null || { echo 'problem apt the guest has no apt-get: its template is not of the family debian, see spec.os'; return 1; }
	export DEBIAN_FRONTEND=noninteractive
	out=$(timeout 120 apt-get -q update 2>&1) || { printf '%s\n' "$out" | tail -n 10 | problem apt; return 1; }
	out=$(timeout 600 apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=60 \
		install --reinstall "$@" 2>&1) || { printf '%s\n' "$out" | tail -n 10 | problem apt; return 1; }
	printf '%s\n' "$out" | grep 'not possible' | problem apt
}

mask_others() {
	for unit; do
		[ "$(readlink $UNITS/"$unit")" = /dev/null ] || timeout 20 systemctl mask --now "$unit" >/dev/null 2>&1
	done
}

# A guest that gets little processor time is slow and not broken: what asks the manager or the kernel has
# longer than what asks a service whose answer clients wait for.
service_lines() {
	timeout 6 systemctl show -p Id -p ActiveState -p UnitFileState -p MainPID -p NRestarts "$@" 2>/dev/null |
		awk -F= '
		{ v[$1] = $2 }
		function flush() { if (v["Id"] != "") print "service", v["Id"], v["ActiveState"] == "" ? "unknown" : v["ActiveState"],
			v["UnitFileState"] == "enabled" ? "enabled" : "disabled", v["MainPID"] + 0, v["NRestarts"] + 0; split("", v) }
		$0 == "" { flush() }
		END { flush() }'
}

active() { [ "$(timeout 5 systemctl is-active "$1" 2>/dev/null)" = active ]; }

main_pid() { systemctl show -p MainPID --value "$1"; }

manage() { # <verb> <unit>
	timeout 5 systemctl reset-failed "$2" 2>/dev/null
	timeout 60 systemctl "$1" "$2" 2>&1
}

at_boot() { ! timeout 5 systemctl is-enabled "$@" 2>/dev/null | grep -qvx enabled; }

start_at_boot() { timeout 30 systemctl enable "$@" 2>&1 | grep -v '^Created symlink'; }

forget() {
	timeout 20 systemctl stop "$1" >/dev/null 2>&1
	timeout 20 systemctl disable "$1" >/dev/null 2>&1
}

units_changed() { timeout 30 systemctl daemon-reload; }

last_words() { timeout 5 journalctl -u "$1" -n "$2" --no-pager -o cat 2>/dev/null; }

# reload_logs: journald reads files of its own directory only.
reload_logs() {
	if [ "$(readlink $JOURNAL)" = $ETC/journald.conf ] && ! changes journal && ! pending journal; then return 0; fi
	mkdir -p "${JOURNAL%/*}" && ln -sfn $ETC/journald.conf $JOURNAL
	echo 'action restart systemd-journald.service'
	timeout 20 systemctl restart systemd-journald.service >/dev/null 2>&1 || :
}

# link_cockpit_conf: Cockpit reads one file only. One that somebody else wrote is put aside while
# Vhosts lead to Cockpit, and comes back after that.
link_cockpit_conf() {
	if [ ! -e $ETC/cockpit.conf ]; then
		[ "$(readlink $COCKPIT_CONF)" = $ETC/cockpit.conf ] || return 0
		rm -f $COCKPIT_CONF
		[ ! -e $COCKPIT_CONF.before-proximity ] || mv -f $COCKPIT_CONF.before-proximity $COCKPIT_CONF
		return 0
	fi
	[ "$(readlink $COCKPIT_CONF)" != $ETC/cockpit.conf ] || return 0
	mkdir -p "${COCKPIT_CONF%/*}"
	[ ! -e $COCKPIT_CONF ] || mv -f $COCKPIT_CONF $COCKPIT_CONF.before-proximity
	ln -sfn $ETC/cockpit.conf $COCKPIT_CONF
}

# reload_cockpit: the distribution's own socket, on our address, for root too.
reload_cockpit() {
	link_cockpit_conf
	if ! has_cockpit; then
		[ -L $COCKPIT ] || return 0
		rm -f $COCKPIT
		timeout 30 systemctl disable --now cockpit.socket >/dev/null 2>&1
		timeout 30 systemctl stop cockpit.service >/dev/null 2>&1
		timeout 30 systemctl daemon-reload
		return 0
	fi
	fresh=
	if [ "$(readlink $COCKPIT)" != $ETC/cockpit-socket.conf ]; then
		fresh=yes
		mkdir -p "${COCKPIT%/*}" && ln -sfn $ETC/cockpit-socket.conf $COCKPIT
	fi
	[ -z "$(missing_ui)" ] || return 0 # it is installed by a step of its own
	sed -i '/^root$/d' /etc/cockpit/disallowed-users 2>/dev/null
	if [ -z "$fresh" ] && active cockpit.socket && ! changes cockpit && ! pending cockpit; then return 0; fi
	timeout 30 systemctl daemon-reload
	timeout 30 systemctl enable cockpit.socket >/dev/null 2>&1
	service restart cockpit.socket
}

read_logs() { # <service> <lines> <priority>|- <cursor>|-
	lines=$2 priority=$3 cursor=$4
	case $1 in
	system) set -- ;;
	kernel) set -- -k ;;
	manager) set -- _PID=1 ;;
	access | errors) set -- -u "$CADDY" ;;
	*) set -- -u "$(unit_of "$1")" ;;
	esac
	[ "$priority" = - ] || set -- "$@" -p "$priority"
	[ "$cursor" = - ] || set -- "$@" "--after-cursor=$cursor"
	timeout 10 journalctl -q --no-pager -o short-iso -n "$lines" --show-cursor "$@"
}

become() { die 64 usage 'systemd starts the services themselves'; }

address_of() { timeout 5 getent ahostsv4 "$1" | awk 'NR == 1 { print $1 }'; }
