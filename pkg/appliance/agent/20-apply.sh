
# --- apply

# unpack: a tar on standard input; prints the stage's directory, or problems.
unpack() {
	rm -rf $STATE/stage
	out=$(tar -x -o -C / -f - 2>&1) || { printf '%s\n' "$out" | problem stage; return 1; }
	set -- $STATE/stage/*/manifest
	if [ $# -ne 1 ] || [ ! -f "$1" ]; then echo 'problem stage not one manifest in the archive'; return 1; fi
	dirname "$1"
}

verify_stage() { # <stage>
	[ "$(value protocol "$1/manifest")" = $PROTOCOL ] || die 65 stage 'no manifest of this protocol'
	out=$(awk '$1 == "file" { print $2 "  ." $5 }' "$1/manifest" | (cd "$1/files" && sha256sum -c --quiet - 2>&1)) ||
		{ printf '%s\n' "$out" | problem stage; exit 65; }
}

# plan <stage>: what has to change, "put <part> <mode> <path>" and "del <part> - <path>".
plan() {
	live_list | awk -v manifest="$1/manifest" -v units="$UNITS/" '
		function part_of(path) { return path ~ /^\/etc\/proximity\/(dhcp-)?hosts\.d\// ? "hosts" : index(path, units) == 1 ? "unit" : "data" }
		BEGIN {
			while ((getline line < manifest) > 0) {
				split(line, f, " ")
				if (f[1] == "file") { want[f[5]] = f[2]; part[f[5]] = f[4]; mode[f[5]] = f[3]; path[++n] = f[5] }
			}
		}
		{ p = substr($0, 67); have[p] = $1; if (!(p in want)) print "del", part_of(p), "-", p }
		END { for (i = 1; i <= n; i++) if (have[path[i]] != want[path[i]]) print "put", part[path[i]], mode[path[i]], path[i] }'
}

changes() { # <part> [path pattern]: does the plan touch it?
	printf '%s\n' "$PLAN" | awk -v part="$1" -v pattern="${2:-.}" '$2 == part && $4 ~ pattern { found = 1 } END { exit !found }'
}
pending() { case " $PENDING " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

# check_files: the staged files, by the tools that will read them.
check_files() { # <stage>
	out=$(dnsmasq --test -C "$1/files$ETC/dnsmasq.conf" 2>&1) || { printf '%s\n' "$out" | problem dnsmasq; return 70; }
	if [ -e "$1/files$ETC/dnsmasq-wan.conf" ]; then
		out=$(dnsmasq --test -C "$1/files$ETC/dnsmasq-wan.conf" 2>&1) || { printf '%s\n' "$out" | problem dnsmasq; return 70; }
	fi
	if uses_nft; then
		out=$(nft -c -f "$1/files$ETC/nat.nft" 2>&1) || { printf '%s\n' "$out" | problem nft; return 72; }
	else
		out=$(load_iptables "$1/files$ETC" --test) || { printf '%s\n' "$out" | problem iptables; return 72; }
	fi
	# As the user that it will run as: validation opens the certificate storage.
	install -d -o caddy -g caddy -m 0700 $STATE/caddy
	# What only Caddy may read beside us.
	find "$1/files" -type f -perm 0640 -exec chgrp caddy {} +
	if ! has_table; then
		if changes caddy; then try_caddy validate --config "$1/files$ETC/vhosts.json" || return 71; fi
		return 0
	fi
	if changes table; then try_caddy check-vhosts "$1/files$ETC/vhosts.table" || return 71; fi
	if changes proxy; then
		config=$1/files$ETC/proxy.json
		if [ -e "$1/files$ETC/acme-root.pem" ]; then # it is not where it will be
			cp -p "$config" "$1/proxy.json" && sed "s,$ETC/acme-root.pem,$1/files&," "$config" >"$1/proxy.json"
			config=$1/proxy.json
		fi
		try_caddy validate --config "$config" || return 71
	fi
}

# try_caddy <arguments>: Caddy as a check, with its own words when it fails.
try_caddy() {
	out=$(cd / && HOME=$STATE/caddy XDG_DATA_HOME=$STATE/caddy XDG_CONFIG_HOME=$STATE/caddy timeout 20 \
		setpriv --reuid caddy --regid caddy --clear-groups caddy "$@" 2>&1) && return 0
	printf '%s\n' "$out" | grep -v '"level":"info"\|	INFO	' | problem caddy
	return 1
}

# prepare: what the services need beside their files.
prepare() {
	if ! getent passwd caddy >/dev/null; then
		out=$(useradd --system --user-group --home-dir $STATE/caddy --no-create-home --shell /usr/sbin/nologin caddy 2>&1) ||
			{ printf '%s\n' "$out" | problem caddy-user; return 1; }
	fi
	caddy_is remember >/dev/null
	mkdir -p $STATE/caddy && chown caddy:caddy $STATE/caddy && chmod 0700 $STATE/caddy
	# shellcheck disable=SC2086 # a list
	mask_others $MASKED # two owners of one port cannot both be right
	return 0
}

# save <dir>: copies of the live files that the plan will touch.
save() {
	rm -rf "$1" && mkdir -p "$1" || return 1
	printf '%s\n' "$PLAN" | while read -r _ _ _ path; do
		if [ -e "$path" ]; then printf '%s\0' ".$path"; fi
	done | (cd / && xargs -0 -r cp -p --parents -t "$1")
}

# put <tree> <list of paths>: files of a tree become live, each by one rename.
put() {
	rm -rf $READY && cp -pR "$1" $READY && sync -f $READY || return 1
	printf '%s\n' "$2" | sed 's,/[^/]*$,,' | sort -u | while read -r dir; do
		mkdir -p "$dir" && printf '%s\n' "$2" | awk -v d="$dir" 'substr($0, 1, length(d)) == d && index(substr($0, length(d) + 2), "/") == 0' |
			sed "s,^,$READY," | xargs -r mv -f -t "$dir" || exit 1
	done || return 1
	rm -rf $READY
}

paths() { printf '%s\n' "$PLAN" | awk -v op="$1" '$1 == op' | cut -d' ' -f4-; }

swap() { # <stage>
	new=$(paths put)
	if [ -n "$new" ]; then put "$1/files" "$new" || return 1; fi
	paths del | sed -n "s,^$UNITS/,,p" | while read -r unit; do forget "$unit"; done
	paths del | tr '\n' '\0' | xargs -0 -r rm -f --
}

# restore <dir>: what save kept becomes live again; what was not there goes.
restore() {
	old=$(cd "$1" && find . -type f | sed 's,^\.,,')
	if [ -n "$old" ]; then put "$1" "$old"; fi
	paths put | while read -r path; do
		if [ ! -e "$1$path" ]; then rm -f -- "$path"; fi
	done
}
