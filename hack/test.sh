#!/usr/bin/env bash
# test.sh unit|e2e: runs the tests and prints the slowest ten.
#
#   unit  everything with the race detector, and the quickstart on real containers; the
#         tests that are about numbers once more without it, with the numbers they promise;
#         the proxy's module without it
#   e2e   all end-to-end stories on real containers, certificates by ACME, the appliance's agent
#         on the other systems that guests may have, and its death at each of its steps
#
# As root on Debian 12 the stories must run: a skip there is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:?unit or e2e}
cache=${PROXIMITY_CACHE:-/var/cache/proximity}
if [ "$(cat "$cache/engine" 2>/dev/null)" = lxc ] && [ "$(id -u)" = 0 ]; then
  export PROXIMITY_REQUIRE_LXC=1
elif [ -n "${CI:-}" ] && [ "$(id -u)" = 0 ]; then
  echo "test.sh: as root in CI the tests on real containers must run, but make setup found no way" >&2
  exit 1
else
  echo "note: no real containers here; the tests that need them are skipped"
fi

case $mode in
  unit)
    export PROXIMITY_E2E=quick
    # make lint vets, once for all; symbols of a debugger are not needed here either.
    # Three packages at a time: much of what they do is waiting.
    set -- -race -vet=off -ldflags=-w -p 3 -timeout 25m ./...
    ;;
  e2e)
    export PROXIMITY_E2E=all
    set -- -count=1 -timeout 44m ./hack/e2e/...
    ;;
  *) echo "test.sh: $mode is neither unit nor e2e" >&2; exit 2 ;;
esac
# tests is go test for testreport, whose matter it is whether tests fail. That they were not run,
# for go did not understand, is a failure too.
tests() {
  local rc=0
  go test -json "$@" || rc=$?
  [ "$rc" -le 1 ] || printf '{"Action":"build-fail","ImportPath":"go test"}\n'
}
# What is not run with the race detector, which needs cgo, is compiled as the binaries are.
plain() { CGO_ENABLED=0 tests -vet=off "$@"; }

# What the controllers live through with simulated time takes minutes of processor and nothing
# else. It runs beside the rest, which waits much, and gets what that leaves of the processors.
# It has a process group of its own, so that it does not outlive this.
start_lives() {
  lives=$(mktemp)
  trap 'kill -- "-$living" 2>/dev/null || true; rm -f "$lives"' EXIT
  set -m
  (
    renice -n 19 -p "$BASHPID" >/dev/null
    CHAOS_SEEDS=2000 plain -timeout 40m -run '^(TestSoup|TestCrashAtEverySideEffect|TestEveryFaultOfEveryRequest|TestQuietForADay)$' ./controllers
  ) >"$lives" 2>&1 &
  living=$!
  set +m
}
end_lives() {
  wait "$living" || printf '{"Action":"build-fail","ImportPath":"lives"}\n'
  cat "$lives"
}

# Whether it went well is testreport's to judge.
{
  if [ "$mode" = unit ]; then
    start_lives
    tests "$@"
    plain -timeout 15m -run "^(TestModel|TestWatchers|TestDeletionOfRandomGraphs)\$" ./pkg/store ./pkg/runtime
    # The proxy is a module of its own. Set-up has compiled Caddy with these very settings;
    # with the race detector it would be compiled once more, for minutes.
    (cd cmd/proximity-caddy && GOWORK=off plain -timeout 5m ./vhosts)
    end_lives
  else
    plain "$@"
    # Certificates from Pebble, which is a module of its own and is built for it; and the
    # appliance's agent, on other systems and killed at each of its steps.
    plain -count=1 -timeout 25m -run '^(TestACME|TestCrashPoints|TestAgentOnAlpine|TestAgentWithIPTables)$' ./pkg/appliance
  fi
} | go run ./hack/testreport
