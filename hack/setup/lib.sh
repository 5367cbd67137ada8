# The cache and its artefacts: one lock, one stamp per artefact, one rename into place.
# Sourced by setup.sh.
# shellcheck shell=bash

say() { printf 'setup: %s\n' "$*"; }

die() {
	printf 'setup: %s\n' "$*" >&2
	exit 1
}

# now_ms prints the time in milliseconds.
now_ms() { printf '%s' "$((${EPOCHREALTIME/./} / 1000))"; }

# seconds MS prints a duration for people.
seconds() { printf '%d.%d s' "$(($1 / 1000))" "$(($1 % 1000 / 100))"; }

STARTED=$(now_ms)
CHANGED=0 # how many steps did something
WORK=     # scratch directory of the running step, removed whatever happens

# open_cache makes the cache, takes its lock until this process and all that it started
# have ended, and removes what a killed set-up left.
open_cache() {
	mkdir -p -- "$CACHE" "$CACHE"/{bin,templates,rootfs,stamps}
	chmod 0755 -- "$CACHE"
	exec 9>"$CACHE/.lock"
	if ! flock --nonblock 9; then
		say "another set-up of $CACHE is running; waiting for it"
		flock 9
	fi
	trap leave EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	find "$CACHE" -maxdepth 1 -name '.tmp.*' ! -name '.tmp.old.*' -exec rm -rf --one-file-system {} +
	in_use "$CACHE/rootfs" || find "$CACHE" -maxdepth 1 -name '.tmp.old.*' -exec rm -rf --one-file-system {} +
	remove_stale_policy
}

# leave runs at every exit: no scratch directory and no changed setting stays behind.
leave() {
	local status=$?
	trap - EXIT
	set +e
	if [[ $status -ne 0 && -n $WORK && -s $WORK/log ]]; then
		printf '\nsetup: this step failed; the end of its output:\n' >&2
		tail -n 40 -- "$WORK/log" | sed 's/^/    /' >&2
	fi
	remove_stale_policy
	[[ -n $WORK ]] && remove "$WORK"
	exit "$status"
}

# remove DIR... deletes, never crossing into something that is mounted below.
remove() { rm -rf --one-file-system -- "$@"; }

# in_use DIR: some process sees a layer of a mount at DIR or below it. A running guest
# would lose its files with it. (The kernel shows the path of the mount's day: a tree
# that was moved since goes on being shown where it was.)
in_use() { grep -qsF -- "$1" /proc/[0-9]*/mountinfo; }

# key_of_files WORD... prints a key of the named files and directories (relative to
# hack/setup), tests left out; a word that names none stands for itself.
key_of_files() {
	local word
	for word in "$@"; do
		if [[ -d $SETUP_DIR/$word ]]; then
			(cd "$SETUP_DIR/$word" && find . -type f ! -name '*_test.go' -print0 | sort -z | xargs -0 sha256sum)
		elif [[ -f $SETUP_DIR/$word ]]; then
			sha256sum <"$SETUP_DIR/$word"
		else
			printf '%s\n' "$word"
		fi
	done | sha256sum | cut -c1-16
}

# begin TEXT announces a step and gives it an empty $WORK on the cache's file system.
begin() {
	printf 'setup: %s ... ' "$1"
	STEP_STARTED=$(now_ms)
	WORK=$(mktemp -d "$CACHE/.tmp.XXXXXXXX")
	chmod 0755 -- "$WORK"
	: >"$WORK/log"
}

# finish ends the step that begin announced.
finish() {
	remove "$WORK"
	WORK=
	CHANGED=$((CHANGED + 1))
	seconds "$(($(now_ms) - STEP_STARTED))"
	printf '\n'
}

# artefact NAME PATH KEY BUILDER makes $CACHE/PATH unless its stamp says that it was
# made from KEY. BUILDER leaves the result as $WORK/out and its messages in $WORK/log;
# it describes itself when called with "describe".
artefact() {
	local name=$1 path=$2 key=$3 builder=$4
	local target=$CACHE/$path stamp=$CACHE/stamps/$name
	if [[ -e $target && -f $stamp && $(<"$stamp") == "$key" ]]; then
		return 0
	fi
	begin "$("$builder" describe)"
	"$builder" >>"$WORK/log" 2>&1
	rm -f -- "$stamp"
	replace "$WORK/out" "$target"
	printf '%s\n' "$key" >"$WORK/stamp"
	mv -- "$WORK/stamp" "$stamp"
	finish
}

# replace NEW TARGET puts NEW where TARGET is. The stamp is off meanwhile: killed between
# the two renames, the next set-up makes it again. An old tree that a running guest still
# uses is moved aside and removed by a later set-up.
replace() {
	local new=$1 target=$2 old
	sync -f "$new"
	if [[ -d $target ]]; then
		old=$(mktemp -d "$CACHE/.tmp.old.XXXXXXXX")
		mv -T -- "$target" "$old"
		mv -T -- "$new" "$target"
		in_use "$target" || remove "$old"
	else
		mv -T -- "$new" "$target"
	fi
}

build_engine() {
	[[ ${1-} == describe ]] && { echo "note that guests are real"; return; }
	echo lxc >"$WORK/out"
}

report_total() {
	local total
	total=$(seconds "$(($(now_ms) - STARTED))")
	if [[ $CHANGED -eq 0 ]]; then
		say "already there: $CACHE ($total)"
	else
		say "ready: $CACHE, engine lxc; $CHANGED steps in $total"
	fi
}
