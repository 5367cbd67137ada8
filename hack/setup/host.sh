# The machine itself: the packages that the embedded node's programs come from.
# Sourced by setup.sh.
# shellcheck shell=bash

POLICY=/usr/sbin/policy-rc.d
readonly POLICY
POLICY_MARK="# made by proximity's hack/setup.sh for the time of an installation"
readonly POLICY_MARK

# is_there PROBE: a command on the PATH or an absolute path that exists.
is_there() {
	case $1 in
	/*) [[ -e $1 ]] ;;
	*) type -P "$1" >/dev/null ;;
	esac
}

# missing_host_packages prints package=version for what has to be installed.
missing_host_packages() {
	local probe package version
	while read -r probe package version; do
		case $probe in '' | '#'*) continue ;; esac
		is_there "$probe" || printf '%s=%s\n' "$package" "$version"
	done <"$SETUP_DIR/host-packages.txt" | sort -u
}

# apt_get runs apt-get unattended, without recommended packages, and with an archive
# directory of our own: another apt-get on the machine may clean the shared one while
# this one installs from it (seen).
apt_get() {
	mkdir -p -- "$WORK/archives/partial"
	apt-get --yes --no-install-recommends --option Dir::Cache::archives="$WORK/archives" \
		--option APT::Sandbox::User=root --option Acquire::Retries=3 \
		--option DPkg::Lock::Timeout=120 "$@"
}

install_host_packages() {
	type -P go >/dev/null || die "go is not on the PATH; it is needed to build Caddy"
	local packages
	mapfile -t packages < <(missing_host_packages)
	[[ ${#packages[@]} -eq 0 ]] && return 0
	begin "installing from Debian: ${packages[*]}"
	{
		apt_get update
		forbid_service_start
		apt_get install "${packages[@]}"
		remove_stale_policy
		disable_services "${packages[@]}"
	} >>"$WORK/log" 2>&1
	finish
}

# forbid_service_start keeps maintainer scripts from starting daemons on this machine,
# unless the machine has a policy of its own (then that one counts).
forbid_service_start() {
	[[ -e $POLICY ]] && return 0
	printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" >"$POLICY.proximity"
	chmod 0755 "$POLICY.proximity"
	mv -T -- "$POLICY.proximity" "$POLICY"
}

# remove_stale_policy takes our policy away again; also after a set-up that was killed.
remove_stale_policy() {
	if grep -qsxF -- "$POLICY_MARK" "$POLICY"; then
		rm -f -- "$POLICY"
	fi
}

# disable_services keeps what came with a package from starting at the next boot: lxc would
# make a bridge (lxcbr0) and firewall rules of its own, and nobody asked for an ssh server on
# this machine. Only if we installed it.
disable_services() {
	type -P systemctl >/dev/null || return 0
	local package
	for package; do
		case $package in
		lxc=*) systemctl disable lxc.service lxc-net.service lxc-monitord.service ;;
		openssh-server=*) systemctl disable ssh.service ssh.socket ;;
		esac
	done
}

# debian_sources prints one-line apt sources: those of this machine's own configuration
# that are Debian 12 itself (main, updates, security), as apt sees them.
debian_sources() {
	local sources
	sources=$(list_debian_sources)
	if [[ -z $sources ]]; then # lists were never fetched, or cleaned away
		apt_get update >&2
		sources=$(list_debian_sources)
	fi
	[[ -n $sources ]] || die "no Debian 12 repository among this machine's apt sources"
	printf '%s\n' "$sources"
}

list_debian_sources() {
	apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' |
		awk -F'|' '$1 == "Debian" && $2 ~ /^bookworm/ { print $3 }' | sort -u
}

# debian_network_options prints how this machine's apt reaches its sources (proxies,
# checks), as apt configuration.
debian_network_options() {
	apt-config dump | grep -E '^Acquire::(http|https|Check-Valid-Until|Check-Date|ForceIPv4|ForceIPv6)[: ]' || true
	printf 'Acquire::Retries "3";\n'
}

# guest_packages KIND... prints package=version of guest-packages.txt for these kinds.
guest_packages() {
	local kind package version wanted
	while read -r kind package version; do
		for wanted in "$@"; do
			[[ $kind == "$wanted" ]] && printf '%s=%s\n' "$package" "$version"
		done
	done < <(grep -Ev '^(#|$)' "$SETUP_DIR/guest-packages.txt")
	return 0
}
