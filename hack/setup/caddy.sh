# The reverse proxy: Caddy, built from the module cmd/proximity-caddy. Sourced by
# setup.sh.
# shellcheck shell=bash

build_caddy() {
	[[ ${1-} == describe ]] && { echo "building Caddy from pinned modules (1-4 minutes the first time)"; return; }
	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 GOFLAGS=-mod=readonly GOWORK=off \
		go build -C "$SOURCE_DIR/cmd/proximity-caddy" \
		-buildvcs=false -trimpath -ldflags '-s -w' -o "$WORK/out" .
	"$WORK/out" version
}
