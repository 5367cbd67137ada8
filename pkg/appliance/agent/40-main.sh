
# --- apply as a whole

# worse <before> <failing>: did one of the failing checks work before the change?
worse() {
	printf '%s\n' "$2" | while read -r name _; do
		if printf '%s\n' "$1" | grep -q "^$name ok"; then echo "$name"; fi
	done | grep -q .
}

roll_back() { # <stage>
	CURRENT=$MANIFEST
	restore $STATE/rollback
	PENDING='unit journal nat dnsmasq dns-wan hosts caddy proxy table cockpit'
	STALE=
	reload
	verify | problem after-rollback
	echo rolled-back
}

# commit <stage>: the manifest comes last; with it the set counts as live.
commit() {
	if ! cmp -s "$1/manifest" $MANIFEST; then
		{ rm -rf $READY && cp "$1/manifest" $READY && sync -f $READY && mv -f $READY $MANIFEST; } || die 76 manifest 'cannot be written'
	fi
	rm -f $STATE/pending
	CURRENT=$MANIFEST
	SELF=$LIB/agent
	printf 'applied %s\n' "$(value hash)"
}

exit_code() { # <failing checks>
	case $1 in *nat\ *) return 82 ;; *dns\ * | *dns-wan*) return 80 ;; *proxy\ *) return 81 ;; *) return 76 ;; esac
}

apply() { # <stage>|-
	exec 9>$LOCK
	flock -w 30 9 || die 75 busy 'another apply is running'
	stage=$1
	if [ "$stage" = - ]; then
		stage=$(unpack) || { printf '%s\n' "$stage"; exit 65; }
		cmp -s "$SELF" "$stage/agent" || exec /bin/sh "$stage/agent" apply "$stage"
	fi
	verify_stage "$stage"
	missing=$(missing_commands)
	if [ -n "$missing" ]; then printf '%s\n' "$missing" | problem packages; exit 66; fi

	PLAN=$(plan "$stage")
	PENDING=$(cat $STATE/pending 2>/dev/null)
	printf '%s\n' "$PLAN" | head -n 50 | awk 'NF { print $1 == "put" ? "changed" : "removed", $4 }'
	mkdir -p $STATE
	prepare || exit 76
	check_files "$stage" || exit $?

	before=$(check_nat; check_dns; check_dns_wan; check_proxy)
	STALE=$(stale_leases "$stage")
	NEWDIRS= # dnsmasq watches directories; a new one of the same name is another
	for dir in "$ETC/hosts.d" "$ETC/dhcp-hosts.d"; do
		[ -d "$dir" ] || NEWDIRS="$NEWDIRS $dir"
		mkdir -p "$dir"
	done
	if [ -n "$PLAN" ]; then
		save $STATE/rollback || die 76 files 'the live files cannot be copied'
		printf '%s %s\n' "$PENDING" "$(printf '%s\n' "$PLAN" | cut -d' ' -f2 | sort -u | tr '\n' ' ')" >$STATE/pending ||
			die 76 files 'the list of pending services cannot be written'
		swap "$stage" || { restore $STATE/rollback; die 76 files 'cannot be replaced'; }
	fi
	CURRENT=$stage/manifest
	reload
	failing=$(verify)
	if [ -n "$failing" ]; then
		printf '%s\n' "$failing" | problem verify
		complaints "$failing"
		# Back only to something that worked; else what is new stays for the next try.
		if [ -n "$PLAN" ] && worse "$before" "$failing"; then roll_back "$stage"; fi
		exit_code "$failing"
		exit $?
	fi
	commit "$stage"
	rm -rf $STATE/stage $STATE/rollback
	# A guest that is not up yet would cost the probes' whole time, and nobody applies to learn of it.
	observe "$(value hash)" without-probes
}

# --- the other verbs

unit_of() {
	case $1 in dnsmasq | caddy | nat | dnsmasq-wan) echo "proximity-$1$SUFFIX" ;; *) die 64 usage 'service is dnsmasq, caddy or nat' ;; esac
}

restart() { # <service>|all
	result=0
	names=$1
	if [ "$1" = all ]; then
		names='nat dnsmasq caddy'
		if has_dns_wan; then names="$names dnsmasq-wan"; fi
	fi
	for name in $names; do
		unit=$(unit_of "$name") || { echo "$unit"; exit 64; }
		service restart "$unit" || result=76
	done
	return $result
}

# logs: the newest lines, and with a cursor to go on from as the last of them.
#   <service>   dnsmasq, dnsmasq-wan, caddy, nat; access or errors of the proxy; kernel; manager,
#               the service manager; system, everything that the guest keeps in one place
#   <lines>     at most so many
#   <priority>  that important or more, - for all
#   <cursor>    what comes after it, - for the newest
#   <text>      only lines that contain it
logs() {
	case $2 in '' | *[!0-9]* | ?????*) die 64 usage 'lines from 1 to 9999' ;; esac
	case $3 in - | emerg | alert | crit | err | warning | notice | info | debug) ;; *) die 64 usage 'a priority as journalctl has them' ;; esac
	[ "$3" = - ] || [ -n "$PRIORITIES" ] || die 64 usage 'the logs of this guest have no priorities'
	case $4 in *[!A-Za-z0-9=\;,:._-]*) die 64 usage 'a cursor' ;; esac
	case $1 in
	system | kernel | manager) sift='cat' ;;
	access | errors) sift="sift_$1" ;;
	*) unit=$(unit_of "$1") || { echo "$unit"; exit 64; }; sift='cat' ;;
	esac
	read=$2 # of what is sifted there must be more
	[ "$sift$5" = cat ] || read=20000
	read_logs "$1" "$read" "$3" "$4" | $sift | grep -F -e "$5" -e '-- cursor: ' | tail -n $(($2 + 1))
}

# Caddy writes a line of JSON for each request of a Vhost with an access log, under a name of its own.
# shellcheck disable=SC2317 # called by its name
sift_access() { grep -F -e '"logger":"http.log.access' -e '-- cursor: '; }
# shellcheck disable=SC2317 # likewise
sift_errors() { grep -E -e '"level":"(warn|error|panic|fatal)"' -e '^-- cursor: ' -e ' caddy\[[0-9]*\]: [^{]'; }

in_set() { # <set> <address>
	if uses_nft; then
		nft get element inet proximity "$1" "{ $2 }" >/dev/null 2>&1
		return
	fi
	iptables -w 5 -S "PROXIMITY-$(echo "$1" | tr '[:lower:]' '[:upper:]')" 2>/dev/null | awk -v ip="$2" '
		function number(address,  f) { split(address, f, "."); return ((f[1] * 256 + f[2]) * 256 + f[3]) * 256 + f[4] }
		$3 == "-d" {
			split($4, p, "/")
			size = 2 ^ (32 - p[2])
			if (int(number(ip) / size) == int(number(p[1]) / size)) found = 1
		}
		END { exit !found }'
}

# What the rules say of a destination; the appliance itself is not bound by them, so it
# cannot try it from a guest's place.
rule_for() {
	if in_set forbidden "$1"; then echo refused; elif in_set allowed "$1"; then echo allowed
	elif in_set closed "$1" || in_set wan "$1"; then echo refused; else echo allowed; fi
}

nat_test() { # <host> <port> <forbidden ip>
	case $1$3 in *[!A-Za-z0-9.-]*) die 64 usage 'a host name and an address' ;; esac
	case $2 in '' | *[!0-9]*) die 64 usage 'a port' ;; esac
	ip=$(address_of "$1")
	if [ -n "$ip" ]; then echo "nat-test dns ok $ip"; else echo "nat-test dns fail no address for $1"; fi
	# shellcheck disable=SC2016 # expanded by that bash
	if [ -z "$ip" ]; then
		echo 'nat-test tcp fail no address to connect to'
	elif out=$(timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$ip" "$2" 2>&1); then
		echo 'nat-test tcp ok connected'
	else
		echo "nat-test tcp fail $(printf '%s' "${out:-no answer in 5 s}" | tail -n 1 | cut -c1-200)"
	fi
	if ! line=$(check_nat); then echo "nat-test forbidden fail $line"; return; fi
	if [ "$(rule_for "$3")" = refused ]; then echo "nat-test forbidden ok refused by rule"; else echo "nat-test forbidden fail the rules let it through"; fi
}

# install_missing: our units own the ports, so the distribution's are masked before they come.
install_missing() {
	packages=$({ missing_commands; missing_ui; } | cut -d' ' -f3)
	[ -n "$packages" ] || return 0
	# shellcheck disable=SC2086 # a list
	mask_others $MASKED
	# shellcheck disable=SC2086 # a list
	install_packages $packages || return 66
	left=$(missing_commands; missing_ui)
	[ -z "$left" ] || { printf '%s\n' "$left" | problem packages; return 66; }
	printf '%s\n' "$packages" | sed 's/^/installed /'
}

certificates() { # <epoch>
	case $1 in '' | *[!0-9]* | ????????????*) die 64 usage 'seconds since 1970' ;; esac
	find $STATE/caddy/certificates -name '*.crt' -newermt "@$1" -printf '%T@ %p\n' 2>/dev/null | sort -n | head -n 200 |
		while read -r stamp path; do
			echo "certificate ${stamp%.*}"
			sed '/^-----END CERTIFICATE-----/q' "$path" # the chain comes behind it
		done
	echo root
	cat $STATE/caddy/pki/authorities/local/root.crt 2>/dev/null || :
}

# What of the guest's state a new guest needs. Certificates of the proxy's own CA are left out:
# it makes them anew.
KEPT='dnsmasq.leases caddy/pki caddy/acme caddy/certificates'

# state_save: an archive of it, as text.
state_save() {
	cd $STATE || die 76 state 'there is none'
	there=$(for name in $KEPT; do if [ -e "$name" ]; then echo "$name"; fi; done)
	[ -n "$there" ] || die 76 state 'there is none'
	# shellcheck disable=SC2086 # a list
	tar -c --exclude=caddy/certificates/local -f - $there 2>/dev/null | gzip -n | base64
}

# state_load: such an archive on standard input comes into a new guest.
state_load() {
	mkdir -p $STATE && prepare || return 76
	out=$({ base64 -d | gzip -d | tar -x -o -C $STATE -f -; } 2>&1) || { printf '%s\n' "$out" | problem state; return 76; }
	chown -R caddy:caddy $STATE/caddy
}

main() {
	case ${1:-}/$# in
	observe/[12]) observe "${2:-}" ;;
	apply/2) apply "$2" ;;
	restart/2) restart "$2" ;;
	logs/[3456]) logs "$2" "$3" "${4:--}" "${5:--}" "${6:-}" ;;
	nat-test/4) nat_test "$2" "$3" "$4" && echo end ;;
	packages/1) missing_commands && missing_ui && echo end ;;
	install/1) install_missing && echo end ;;
	certificates/2) certificates "$2" && echo end ;;
	state-save/1) state_save && echo end ;;
	state-load/1) state_load && echo end ;;
	ca-root/1) cat $STATE/caddy/pki/authorities/local/root.crt ;;
	nat-start/1) nat_start ;;
	drop-leases/1) drop_leases ;;
	dns-wan-start/1) dns_wan_start ;;
	caddy-start/1) caddy_start ;;
	become/2) become "$2" ;;
	*) die 64 usage 'see the head of this file' ;;
	esac
}

main "$@"; exit $?
