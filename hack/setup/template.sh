# Guest templates, and the same unpacked with shifted ids. Sourced by setup.sh.
# shellcheck shell=bash
#
# The standard template is what Proxmox VE calls debian-12-standard, as far as it
# matters here: systemd as init, ifupdown with /etc/network/interfaces, dhclient, apt.
# Facts that shaped it, each measured with LXC 5.0.2 and systemd 252 in an unprivileged
# container (idmap, no AppArmor, cgroup v1): it boots with Debian's stock common.conf +
# userns.conf; the one unit that fails is sys-kernel-debug.mount; an empty
# /etc/machine-id gives each guest its own id without being a "first boot" (which would
# enable every installed service by preset). Start to address by DHCP 0.3 s, to
# "systemctl is-system-running: running" 0.4 s, halt 1.2 s (1 s of it in dhclient -r);
# without a DHCP server the boot ends after 7.5 s and dhclient goes on in the background.
#
# An unpacked template is the lower layer of its guests. When it changes, running guests
# keep the old one; a stopped guest finds its own files over the new one when it starts.

STANDARD_TEMPLATE=debian-12-standard_12.12-1_amd64.tar.zst
APPLIANCE_TEMPLATE=debian-12-proximity_1.0_amd64.tar.zst
UNPACK=shift-100000-v1 # changes when unpack_shifted makes something else
readonly STANDARD_TEMPLATE APPLIANCE_TEMPLATE UNPACK

# Units that cannot work in a container, that a guest does not need, or that would wake
# 10,000 guests at the same hour.
MASKED_UNITS=(
	sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount
	sys-fs-fuse-connections.mount dev-hugepages.mount
	systemd-modules-load.service kmod-static-nodes.service systemd-remount-fs.service
	systemd-journald-audit.socket systemd-firstboot.service systemd-pstore.service
	systemd-binfmt.service proc-sys-fs-binfmt_misc.automount
	modprobe@.service
	getty.target console-getty.service getty@.service container-getty@.service getty-static.service
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer
	e2scrub_all.timer e2scrub_reap.service
)
readonly MASKED_UNITS

build_standard_template() {
	[[ ${1-} == describe ]] && { echo "building the guest template $STANDARD_TEMPLATE"; return; }
	local root=$WORK/root packages
	debian_sources >"$WORK/sources.list"
	debian_network_options >"$WORK/apt.conf"
	packages=$(guest_packages base | paste -sd, -)
	# A mount namespace of its own: killed at any moment, mmdebstrap leaves no mount
	# below a directory that is going to be removed.
	TMPDIR=$WORK unshare --mount mmdebstrap --mode=root --variant=minbase --format=directory \
		--skip=output/dev --include="$packages" --aptopt="$WORK/apt.conf" \
		--dpkgopt="$SETUP_DIR/guest/etc/dpkg/dpkg.cfg.d/90proximity" \
		bookworm "$root" "$WORK/sources.list"
	customise "$root"
	pack "$root" "$WORK/out"
}

# customise ROOT turns what mmdebstrap made into a guest of an embedded node: nothing of
# this machine in it, our files over it, useless units off.
customise() {
	local root=$1 unit
	rm -f -- "$root"/etc/apt/apt.conf.d/99mmdebstrap "$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap \
		"$root"/etc/apt/sources.list.d/* "$root"/etc/hostname "$root"/etc/resolv.conf \
		"$root"/var/lib/dbus/machine-id
	cp -r --no-preserve=ownership -- "$SETUP_DIR/guest/." "$root/"
	: >"$root/etc/machine-id"
	: >"$root/etc/resolv.conf" # the node or dhclient writes it
	for unit in "${MASKED_UNITS[@]}"; do
		ln -sfn /dev/null "$root/etc/systemd/system/$unit"
	done
	ln -sfn /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
	sed -i 's/^root:[^:]*:/root:*:/' "$root/etc/shadow"
	printf 'debconf debconf/frontend select Noninteractive\n' | chroot "$root" debconf-set-selections
	grow_old "$root"
}

# grow_old ROOT removes what programs wrote while the template was made.
grow_old() {
	rm -rf --one-file-system -- "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin \
		"$1"/var/cache/apt/archives/*.deb "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old
	find "$1/var/log" -type f -exec truncate -s 0 {} +
}

# The appliance template is the standard one plus the appliance's packages, installed
# from our own repository by apt in a network namespace with nothing in it: this also
# proves that the repository is complete.
build_appliance_template() {
	[[ ${1-} == describe ]] && { echo "building the appliance template $APPLIANCE_TEMPLATE"; return; }
	local root=$WORK/root packages
	mkdir -- "$root"
	unpack "$CACHE/templates/$STANDARD_TEMPLATE" "$root"
	packages=$(guest_packages appliance | cut -d= -f1)
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # starts nothing
	chmod 0755 "$root/usr/sbin/policy-rc.d"
	# shellcheck disable=SC2086 # a list of words
	unshare --mount --net --pid --fork --kill-child bash -c '
		set -eu
		root=$1 repo=$2
		shift 2
		mount -t proc proc "$root/proc"
		mount -t tmpfs tmpfs "$root/dev"
		mknod -m 666 "$root/dev/null" c 1 3
		mknod -m 666 "$root/dev/urandom" c 1 9
		mount --bind "$repo" "$root/mnt"
		echo "deb [trusted=yes] file:/mnt bookworm main" >"$root/run/proximity.list"
		apt() {
			chroot "$root" apt-get --yes --no-install-recommends \
				-o Dir::Etc::SourceList=/run/proximity.list -o Dir::Etc::SourceParts=/dev/null \
				-o APT::Sandbox::User=root "$@"
		}
		apt update
		apt install "$@"
		rm "$root/run/proximity.list"
	' bash "$root" "$CACHE/repo" $packages caddy
	rm -- "$root/usr/sbin/policy-rc.d"
	# The platform installs units of its own; the packages' stay available but off.
	SYSTEMD_OFFLINE=1 chroot "$root" systemctl disable dnsmasq.service nftables.service caddy.service cockpit.socket
	grow_old "$root"
	pack "$root" "$WORK/out"
}

# pack ROOT FILE makes a template of a tree. Device nodes are left out: an unprivileged
# guest could not unpack them, and LXC makes its own.
pack() {
	tar --create --sort=name --numeric-owner --xattrs --xattrs-include='security.capability' \
		--one-file-system --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' \
		--exclude='./run/*' --directory="$1" --use-compress-program='zstd -T0 -6' \
		--file="$2" .
}

# unpack FILE DIR unpacks a template with its owners, modes and capabilities.
unpack() {
	tar --extract --numeric-owner --same-permissions --xattrs --xattrs-include='security.capability' \
		--directory="$2" --use-compress-program=zstd --file="$1"
}

build_standard_rootfs() {
	[[ ${1-} == describe ]] && { echo "unpacking $STANDARD_TEMPLATE for unprivileged guests"; return; }
	unpack_shifted "$CACHE/templates/$STANDARD_TEMPLATE" "$WORK/out"
}

build_appliance_rootfs() {
	[[ ${1-} == describe ]] && { echo "unpacking $APPLIANCE_TEMPLATE for unprivileged guests"; return; }
	unpack_shifted "$CACHE/templates/$APPLIANCE_TEMPLATE" "$WORK/out"
}

# unpack_shifted FILE DIR unpacks as root of a user namespace in which 0..65535 are
# 100000..165535, the ids that Proxmox VE gives to unprivileged guests.
#
# We are root, so we write the map of the namespace ourselves. newuidmap (package uidmap)
# and lxc-usernsexec, which calls it where it is installed, would insist on an entry for
# root in /etc/subuid, which is the administrator's file.
unpack_shifted() {
	local file=$1 out=$2 pid
	mkdir -- "$out" "$out/u100000"
	chown 100000:100000 "$out/u100000"
	chmod 0755 "$out" "$out/u100000"
	mkfifo -- "$WORK/mapped"
	unshare --user --keep-caps bash -c '
		read -r _ <"$1"
		exec setpriv --reuid=0 --regid=0 --clear-groups -- \
			tar --extract --numeric-owner --same-permissions --xattrs \
			--xattrs-include=security.capability --directory="$2" --file=-
	' bash "$WORK/mapped" "$out/u100000" < <(zstd -dc -- "$file") &
	pid=$!
	wait_for_namespace "$pid"
	printf '0 100000 65536\n' >"/proc/$pid/uid_map"
	printf '0 100000 65536\n' >"/proc/$pid/gid_map"
	echo go >"$WORK/mapped"
	wait "$pid"
	touch -- "$out/u100000.complete"
}

# wait_for_namespace PID returns when that child has left our user namespace.
wait_for_namespace() {
	local ours theirs
	ours=$(readlink /proc/self/ns/user)
	for _ in {1..500}; do
		theirs=$(readlink "/proc/$1/ns/user") || die "could not make a user namespace"
		[[ $theirs != "$ours" ]] && return 0
		sleep 0.01
	done
	die "no user namespace within 5 s"
}
