#!/usr/bin/env bash
# Starts the daemon with its embedded node, applies the quickstart, says where to look,
# and stays until it is interrupted. `make run` calls it after set-up and build.
#
#   hack/run.sh [--data-dir DIR] [FLAG of proximityd...]
#
# The daemon's output goes to DIR/proximityd.log (that of the run before to .log.1). INT,
# TERM and HUP are handed on to the daemon once, and its end is waited for. Exit code: 0
# when all went well, 1 when the daemon ended by itself or the quickstart failed.

set -uo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT

DATA=./.proximity
FLAGS=()
while [ $# -gt 0 ]; do
	case $1 in
	--data-dir)
		[ $# -ge 2 ] || { echo "run: --data-dir needs a directory" >&2; exit 2; }
		DATA=$2
		shift
		;;
	--data-dir=*) DATA=${1#*=} ;;
	*) FLAGS+=("$1") ;;
	esac
	shift
done
readonly DATA LOG=$DATA/proximityd.log ENDPOINT=$DATA/endpoint.json

DAEMON=  # its process id
CLIENT=  # that of the running proxctl, if any
STOPPED= # set once a signal was handed on
TOLD=    # set once proxctl was told

# hand_on passes a signal to the daemon, the first time only: a second one would make it
# give up its orderly end.
# shellcheck disable=SC2317 # called by the traps
hand_on() {
	[ -z "$STOPPED" ] || return 0
	STOPPED=$1
	echo
	echo "run: stopping the daemon (guests are shut down, disks are kept) ..."
	tell_client
	[ -z "$DAEMON" ] || kill "-$1" "$DAEMON" 2>/dev/null
}

# tell_client interrupts proxctl, once.
tell_client() {
	[ -n "$CLIENT" ] && [ -z "$TOLD" ] || return 0
	TOLD=1
	kill -INT "$CLIENT" 2>/dev/null
}
trap 'hand_on INT' INT
trap 'hand_on TERM' TERM HUP

# await waits for the end of a child, however many signals interrupt the wait, and
# returns its exit code.
await() {
	local code again
	while :; do
		wait "$1"
		code=$?
		[ "$code" -gt 128 ] || return "$code"
		# It was a signal, to the child or to this script. The child may have ended since; then
		# its own exit code has not been asked for yet.
		kill -0 "$1" 2>/dev/null && continue
		wait "$1" 2>/dev/null
		again=$?
		[ "$again" = 127 ] || code=$again
		return "$code"
	done
}

# died says what the daemon said last.
died() {
	echo "run: the daemon ended by itself (exit code $1); the end of $LOG:" >&2
	tail -n 20 "$LOG" >&2
	exit 1
}

# begin runs a command in the background, in a process group of its own: Ctrl-C on the
# terminal reaches this script alone, which decides what becomes of the others.
begin() {
	set -m
	"$@" &
	set +m
}

start_daemon() {
	mkdir -p "$DATA" || exit 1
	# The database is locked while a daemon has it open; its log must stay where it is.
	if [ -e "$DATA/proximity.db" ] && command -v flock >/dev/null && ! flock -n "$DATA/proximity.db" true; then
		echo "run: a daemon is running on $DATA already; stop it first, or take another --data-dir" >&2
		exit 1
	fi
	[ ! -e "$LOG" ] || mv -f "$LOG" "$LOG.1"
	: >"$LOG" || exit 1
	begin "$ROOT/bin/proximityd" --embedded --data-dir "$DATA" ${FLAGS[@]+"${FLAGS[@]}"} </dev/null >>"$LOG" 2>&1
	DAEMON=$!
}

# await_ready shows what the daemon says to people before it serves (what its guests are),
# not its log, and returns when it says that it serves; false when it ended before.
await_ready() {
	local line ready=1 follower
	exec 3< <(exec tail -n +1 -f --pid="$DAEMON" "$LOG" 2>/dev/null)
	follower=$!
	while IFS= read -r line <&3; do
		case $line in
		ready)
			ready=0
			break
			;;
		time=* | '{'*) ;;
		*) echo "$line" ;;
		esac
	done
	exec 3<&-
	kill "$follower" 2>/dev/null
	return "$ready"
}

proxctl() {
	begin "$ROOT/bin/proxctl" --endpoint-file "$ENDPOINT" "$@"
	CLIENT=$!
	# A signal that came in between has not been handed on to it.
	[ -z "$STOPPED" ] || tell_client
	await "$CLIENT"
	local code=$?
	CLIENT=
	return "$code"
}

next_steps() {
	cat <<TEXT

Now, in another terminal:
  export PROXIMITY_ENDPOINT_FILE=$(cd "$DATA" && pwd)/endpoint.json
  bin/proxctl get all
  bin/proxctl describe app nginx-01
  bin/proxctl logs appliance/proximity
  bin/proxctl apply -f manifests/examples/two-apps.yaml --wait
  bin/proxctl delete -f manifests/quickstart/

The daemon's log is $LOG. Ctrl-C here stops the daemon and its node; the next
\`make run\` brings everything back.
TEXT
}

start_daemon
CODE=0
if await_ready && [ -z "$STOPPED" ]; then
	if proxctl apply -f "$ROOT/manifests/quickstart/" --wait; then
		next_steps
	elif [ -z "$STOPPED" ]; then
		CODE=1
		echo "run: the quickstart is not complete; the daemon goes on, Ctrl-C stops it. Its log is $LOG." >&2
	fi
fi
await "$DAEMON"
DAEMON_CODE=$?
[ -n "$STOPPED" ] || died "$DAEMON_CODE"
[ "$DAEMON_CODE" = 0 ] || { echo "run: the daemon ended with exit code $DAEMON_CODE; its log is $LOG" >&2; CODE=1; }
exit "$CODE"
