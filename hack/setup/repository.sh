# The Debian repository of the embedded node: guests install from it with ordinary apt
# as http://deb.internet.test/debian. Sourced by setup.sh.
# shellcheck shell=bash

# build_repository fetches the packages of guest-packages.txt and everything that they
# need on top of the standard template: apt is given the template's own package status,
# so that the closure is exactly what a guest will ask for.
build_repository() {
	[[ ${1-} == describe ]] && { echo "making the guests' package repository"; return; }
	local apt=$WORK/apt pool=$WORK/out/pool/main packages
	mkdir -p -- "$apt"/{state/lists/partial,archives/partial} "$pool"
	debian_sources >"$apt/sources.list"
	tar --extract --directory="$apt" --use-compress-program=zstd \
		--file="$CACHE/templates/$STANDARD_TEMPLATE" ./var/lib/dpkg/status
	fetch_apt() {
		apt-get --yes --no-install-recommends \
			-o Dir::State="$apt/state" -o Dir::State::status="$apt/var/lib/dpkg/status" \
			-o Dir::Cache="$apt" -o Dir::Cache::archives="$apt/archives" \
			-o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
			-o APT::Sandbox::User=root -o Acquire::Retries=3 -o Acquire::Languages=none \
			-o Debug::NoLocking=1 "$@"
	}
	fetch_apt update
	mapfile -t packages < <(guest_packages appliance repo)
	fetch_apt --download-only install "${packages[@]}"
	move_packages "$apt/archives" "$pool"
	build_caddy_package "$pool"
	index_repository "$WORK/out"
}

# move_packages FROM TO names the files as Debian's archive does: without the epoch,
# whose colon apt writes as %3a.
move_packages() {
	local file name
	for file in "$1"/*.deb; do
		name=${file##*/}
		mv -- "$file" "$2/${name/_*%3a/_}"
	done
}

# index_repository DIR writes the indexes of dists/bookworm and the list of versions.
index_repository() {
	local dists=$1/dists/bookworm
	mkdir -p -- "$dists/main/binary-amd64"
	(cd "$1" && apt-ftparchive packages pool) >"$dists/main/binary-amd64/Packages"
	gzip --keep --no-name "$dists/main/binary-amd64/Packages"
	apt-ftparchive -o APT::FTPArchive::Release::Origin=Proximity \
		-o APT::FTPArchive::Release::Label="Proximity embedded node" \
		-o APT::FTPArchive::Release::Suite=bookworm -o APT::FTPArchive::Release::Codename=bookworm \
		-o APT::FTPArchive::Release::Components=main -o APT::FTPArchive::Release::Architectures=amd64 \
		release "$dists" >"$1/Release.new"
	mv -- "$1/Release.new" "$dists/Release"
	awk '/^Package: / { p = $2 } /^Version: / { print p, $2 }' \
		"$dists/main/binary-amd64/Packages" | sort >"$1/VERSIONS"
}

# build_caddy_package POOL packs bin/caddy as a Debian package that starts nothing. The
# version ends in a number that grows with what is built into it: apt keeps a package
# whose version it has, and nobody looks inside.
build_caddy_package() {
	local version=2.11.9-1~proximity3 root=$WORK/caddy
	install -D -m 0755 -- "$CACHE/bin/caddy" "$root/usr/bin/caddy"
	install -D -m 0644 -- "$SETUP_DIR/caddy/caddy.service" "$root/lib/systemd/system/caddy.service"
	install -D -m 0644 -- "$SETUP_DIR/caddy/Caddyfile" "$root/etc/caddy/Caddyfile"
	install -D -m 0755 -- "$SETUP_DIR/caddy/postinst" "$root/DEBIAN/postinst"
	printf '/etc/caddy/Caddyfile\n' >"$root/DEBIAN/conffiles"
	sed -e "s/@VERSION@/$version/" -e "s/@SIZE@/$(du -sk "$root/usr" | cut -f1)/" \
		"$SETUP_DIR/caddy/control" >"$root/DEBIAN/control"
	dpkg-deb --root-owner-group --no-uniform-compression -Zzstd -z6 \
		--build "$root" "$1/caddy_${version}_amd64.deb"
}
