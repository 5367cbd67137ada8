#!/usr/bin/env bash
# Makes a Debian 12 machine ready for the embedded node: the tools it runs and, in
# $PROXIMITY_CACHE (default /var/cache/proximity), everything that its guests are made
# of. Idempotent: what is there and current is left alone.
#
#   bin/caddy                              the appliance's reverse proxy
#   templates/<name>.tar.zst               guest templates, as a Proxmox VE storage keeps them
#   rootfs/<name>.tar.zst/u100000/         the same, unpacked with ids shifted by 100000
#   rootfs/<name>.tar.zst/u100000.complete   (only then is the directory above whole)
#   repo/                                  the Debian repository that guests install from
#   engine                                 "lxc"
#   stamps/                                what each of these was made from
#
# Where real guests are impossible (not root, not Debian 12, not amd64, no namespaces)
# it writes nothing, says what is then not real, and succeeds: the product works with
# guests simulated in memory.
#
# The network is used by apt (the machine's own sources) and by the go command (the
# machine's own module proxy) only. Set-ups of one cache wait for each other; one that
# was killed leaves nothing that a later one would take for whole.

set -Eeuo pipefail

# why_not_real prints why this machine cannot run real guests; nothing if it can. It
# comes first and in plain old shell, because it must run anywhere.
why_not_real() {
	if [ "$(uname -s)" != Linux ]; then
		echo "this is not Linux"
	elif [ "$(id -u)" != 0 ]; then
		echo "this needs root (containers, bridges, packages); run 'make setup' as root"
	elif ! grep -qs '^VERSION_CODENAME=bookworm$' /etc/os-release; then
		echo "this is not Debian 12 (bookworm), the only system that the set-up knows"
	elif [ "$(uname -m)" != x86_64 ]; then
		echo "guest templates are made for amd64 only, this machine is $(uname -m)"
	elif ! unshare --user --net --mount --pid --fork true 2>/dev/null; then
		echo "no new namespaces are allowed here (in a container or a chroot?)"
	fi
}

MISSING=$(why_not_real)
if [ -n "$MISSING" ]; then
	echo "setup: real guests are not possible here: $MISSING"
	echo "setup: engine: mem. Guests are simulated in memory: no process, packet or limit is real."
	exit 0
fi

shopt -s inherit_errexit
SETUP_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/setup
SOURCE_DIR=$(cd "$SETUP_DIR/../.." && pwd)
CACHE=$(realpath -m -- "${PROXIMITY_CACHE:-/var/cache/proximity}")
readonly SETUP_DIR SOURCE_DIR CACHE
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin

# shellcheck source=setup/lib.sh
source "$SETUP_DIR/lib.sh"
# shellcheck source=setup/host.sh
source "$SETUP_DIR/host.sh"
# shellcheck source=setup/caddy.sh
source "$SETUP_DIR/caddy.sh"
# shellcheck source=setup/template.sh
source "$SETUP_DIR/template.sh"
# shellcheck source=setup/repository.sh
source "$SETUP_DIR/repository.sh"

main() {
	case $CACHE in
	*[:,\\\ ]*) die "PROXIMITY_CACHE=$CACHE: overlay mounts cannot take a path with ':', ',', '\\' or a space" ;;
	esac

	open_cache
	install_host_packages

	# Each line: what it is called, the path in the cache, what it is made from, the
	# builder. The order is the order of dependence; an input that changed changes the
	# key of everything made from it.
	local caddy standard repository appliance
	caddy=$(key_of_files caddy.sh ../../cmd/proximity-caddy "$(go env GOVERSION)")
	artefact caddy bin/caddy "$caddy" build_caddy

	standard=$(key_of_files template.sh guest-packages.txt guest "$STANDARD_TEMPLATE")
	artefact template-standard "templates/$STANDARD_TEMPLATE" "$standard" build_standard_template
	artefact rootfs-standard "rootfs/$STANDARD_TEMPLATE" "$standard $UNPACK" build_standard_rootfs

	repository=$(key_of_files repository.sh guest-packages.txt caddy "$caddy" "$standard")
	artefact repository repo "$repository" build_repository

	appliance=$(key_of_files template.sh "$APPLIANCE_TEMPLATE" "$repository")
	artefact template-appliance "templates/$APPLIANCE_TEMPLATE" "$appliance" build_appliance_template
	artefact rootfs-appliance "rootfs/$APPLIANCE_TEMPLATE" "$appliance $UNPACK" build_appliance_rootfs

	artefact engine engine "lxc" build_engine
	report_total
}

main "$@"
