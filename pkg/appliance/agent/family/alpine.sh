
# --- Alpine: apk and OpenRC
#
# OpenRC keeps no output of services, and its supervisor none of what there was before it. So a
# service of ours begins as this agent (see become), which writes down who it is, sends what it
# says to a log of bounded size, and then becomes the program.

UNITS=/etc/init.d
SUFFIX=
MASKED='dnsmasq caddy nftables'
LOGS=/var/log/proximity
LOG_SIZE=$ETC/log-size
PRIORITIES=
RECORDS=/run/proximity-services # "<pid> <started at> <restarts>" of each, by unit

# Of busybox's own commands, find, timeout and others know less than is asked of them here.
NEEDED='bash caddy coreutils curl dnsmasq findutils flock iproute2 setpriv shadow tar'

missing_commands() {
	for package in $NEEDED; do
		apk info -e "$package" >/dev/null 2>&1 || echo "missing $package $package"
	done
	has_firewall || echo 'missing nftables nftables'
}

missing_ui() { :; }

install_packages() {
	command -v apk >/dev/null || { echo 'problem apk the guest has no apk: its template is not of the family alpine, see spec.os'; return 1; }
	command -v rc-service >/dev/null || { echo 'problem apk the guest has no OpenRC, which Alpine templates bring'; return 1; }
	out=$(timeout 600 apk add --no-cache --no-progress --wait 60 "$@" 2>&1) || { printf '%s\n' "$out" | tail -n 10 | problem apk; return 1; }
}

# mask_others: OpenRC has no masks, but starts nothing that is in no runlevel.
mask_others() {
	for unit; do
		[ -e "$UNITS/$unit" ] || continue
		for level in /etc/runlevels/*/"$unit"; do
			if [ -L "$level" ] || [ -e "$level" ]; then rm -f "$level"; fi
		done
		if rc_service "$unit" status; then rc_service "$unit" stop; fi >/dev/null 2>&1
	done
}

# rc_service: what it starts must not hold the agent's lock, nor who reads what it says.
rc_service() { timeout 60 rc-service --nocolor "$@" </dev/null 9>&-; }

enabled() { [ -e "/etc/runlevels/default/$1" ]; }

service_lines() {
	for unit; do
		(
			pid=$(main_pid "$unit")
			if ! rc_service "$unit" status >/dev/null 2>&1; then
				# Its supervisor was killed, or it never ran.
				if [ -n "$pid" ]; then state=failed; else state=inactive; fi
			elif [ -n "$pid" ]; then state=active; else state=activating; fi
			echo "service $unit $state $(if enabled "$unit"; then echo enabled; else echo disabled; fi) ${pid:-0} $(restarts "$unit")"
		) &
	done
	wait
}

# main_pid: none when it is another process by now that has the number.
main_pid() {
	{ read -r pid since _ <"$RECORDS/$1"; } 2>/dev/null || return 1
	[ "$(started_at "$pid")" = "$since" ] && echo "$pid"
}

restarts() {
	n=
	{ read -r _ _ n <"$RECORDS/$1"; } 2>/dev/null
	echo "${n:-0}"
}

active() { [ -n "$(main_pid "$1")" ] && rc_service "$1" status >/dev/null 2>&1; }

manage() { # <verb> <unit>
	if [ "$1" = start ] && active "$2"; then return 0; fi
	halt "$2"
	[ "$1" != stop ] || return 0
	rm -f "$RECORDS/$2"
	rc_service "$2" start 2>&1 || return 1
	# A supervisor does not wait for the service to begin.
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		[ ! -e "$RECORDS/$2" ] || return 0
		sleep 0.25
	done
	echo 'it did not begin within 5 s'
	return 1
}

# halt: a supervisor that was killed leaves its service behind, of which OpenRC knows nothing.
halt() {
	rc_service "$1" stop >/dev/null 2>&1
	rc_service "$1" zap >/dev/null 2>&1
	if orphan=$(main_pid "$1"); then
		kill "$orphan"
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			[ -n "$(main_pid "$1")" ] || return 0
			sleep 0.2
		done
		kill -KILL "$orphan" && sleep 0.2
	fi 2>/dev/null
}

at_boot() {
	for unit; do enabled "$unit" || return 1; done
}

start_at_boot() {
	for unit; do
		enabled "$unit" || timeout 30 rc-update --quiet add "$unit" default 2>&1
	done
}

forget() {
	halt "$1"
	rm -f "$RECORDS/$1" /etc/runlevels/*/"$1"
}

units_changed() { :; } # OpenRC reads them each time

last_words() { tail -q -n "$2" "$LOGS/${1#proximity-}.log" 2>/dev/null | sed 's/^[^ ]* [^ ]* [^ ]* //'; }

reload_logs() { :; } # the bound counts from the next turn of a log on

reload_cockpit() { :; }

# read_logs: the logs of services are ours, the others syslogd's and the kernel's. A cursor is
# "<inode>:<bytes>": what the file was called then does not matter.
read_logs() { # <service> <lines> <priority>|- <cursor>|-
	case $1 in
	kernel) dmesg | tail -n "$2"; return ;;
	system | manager) log=/var/log/messages old=$log.0 ;;
	access | errors) log=$LOGS/caddy.log old=$log.1 ;;
	*) log=$LOGS/$1.log old=$log.1 ;;
	esac
	[ -e "$log" ] || return 0
	now=$(stat -c '%i:%s' "$log")
	case $4 in
	"${now%:*}":*) tail -c +$((${4#*:} + 1)) "$log" | head -c $((${now#*:} - ${4#*:})) ;;
	"$(stat -c %i "$old" 2>/dev/null)":*) tail -c +$((${4#*:} + 1)) "$old"; head -c "${now#*:}" "$log" ;;
	*) { cat "$old" 2>/dev/null; head -c "${now#*:}" "$log"; } ;;
	esac | if [ "$1" = manager ]; then grep -E ' (init|openrc|rc|supervise-daemon)[^ ]*: '; else cat; fi | tail -n "$2"
	echo "-- cursor: $now"
}

address_of() {
	case $1 in
	*[!0-9.]*) timeout 5 getent hosts "$1" | awk '$1 ~ /^[0-9.]+$/ { print $1; exit }' ;;
	*) echo "$1" ;; # busybox would look for a name of it
	esac
}

# become <service>: (an init script's) what the supervisor started becomes the service.
become() {
	unit=proximity-$1
	mkdir -p $RECORDS $LOGS && chmod 0750 $LOGS || return 76
	n=$(restarts "$unit")
	if [ -e "$RECORDS/$unit" ]; then n=$((n + 1)); fi
	log_to "$1" || return 76
	printf '%s %s %s\n' $$ "$(started_at $$)" "$n" >"$RECORDS/$unit.new" && mv -f "$RECORDS/$unit.new" "$RECORDS/$unit"
	case $1 in
	dnsmasq) drop_leases; exec dnsmasq --keep-in-foreground --conf-file=$ETC/dnsmasq.conf ;;
	dnsmasq-wan) dns_wan_start ;;
	nat) # rules need no process, but who loads them again when that failed needs one
		until nat_start; do sleep 2; done
		exec sleep 2147483647
		;;
	caddy)
		install -d -o caddy -g caddy -m 0750 "${SOCKET%/*}" && install -d -o caddy -g caddy -m 0700 $STATE/caddy || return 76
		export HOME=$STATE/caddy XDG_DATA_HOME=$STATE/caddy XDG_CONFIG_HOME=$STATE/caddy
		exec setpriv --reuid caddy --regid caddy --clear-groups --no-new-privs --bounding-set=-all,+net_bind_service \
			--inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service /bin/sh "$SELF" caddy-start
		;;
	*) die 64 usage 'service is dnsmasq, dnsmasq-wan, caddy or nat' ;;
	esac
}

# log_to <service>: what this process says from now on goes to its log, each line with the time.
log_to() {
	pipe=$RECORDS/$1.pipe
	rm -f "$pipe" && mkfifo -m 0600 "$pipe" || return 1
	# It ends when the service does, and so keeps its last words.
	(trap '' HUP INT TERM; keep_log "$1" $$ <"$pipe" >/dev/null 2>&1) &
	exec >"$pipe" 2>&1
	rm -f "$pipe"
}

# keep_log <service> <pid>: standard input goes to the log, which is put aside when it is full.
keep_log() {
	exec awk -v file="$LOGS/$1.log" -v tag="$(hostname) $1[$2]" -v bound=$LOG_SIZE -v size="$(stat -c %s "$LOGS/$1.log" 2>/dev/null || echo 0)" '
		function most(  text) { if ((getline text < bound) <= 0 || text + 0 < 65536) text = 65536; close(bound); return text + 0 }
		BEGIN { room = most() }
		{
			line = strftime("%Y-%m-%dT%H:%M:%S%z") " " tag ": " $0
			if (size > 0 && size + length(line) >= room) { close(file); system("mv -f " file " " file ".1"); size = 0; room = most() }
			print line >> file
			fflush(file)
			size += length(line) + 1
		}'
}
