#!/usr/bin/env bash
# mutants.sh [id...]: shows that the tests can fail. Each fault of hack/mutants/table.txt
# is put into a copy of the tree, never into the tree itself; the test that it names must
# pass without the fault and fail with it. Prints a table with the seconds it took (with
# compiling) and the first thing that the test said; fails when a fault was not caught.
set -euo pipefail
cd "$(dirname "$0")/.."

TEST_TIMEOUT=90s # a test that hangs has caught the fault too
export CHAOS_SEEDS=${CHAOS_SEEDS:-40} # of TestSoup
TABLE=$PWD/hack/mutants/table.txt
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
missed=0

# run PACKAGE TEST: runs the test in the copy, output in $work/log.
run() { (cd "$work/tree" && go test -count=1 -timeout "$TEST_TIMEOUT" -run "$2" "$1") >"$work/log" 2>&1; }

# fresh: makes a copy of what is tracked, as it is in the tree.
fresh() {
	rm -rf -- "$work/tree"
	mkdir -- "$work/tree"
	git ls-files -z --cached --others --exclude-standard -- go.mod go.sum api pkg controllers manifests |
		tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory="$work/tree"
}

# judge ID PACKAGE TEST prints the verdict.
judge() {
	if ! run "$2" "$3"; then
		echo "fails without the fault"
	elif grep -q 'no tests to run' "$work/log"; then
		echo "no such test"
	elif ! (cd "$work/tree" && patch --quiet --strip=1 --forward <"$OLDPWD/hack/mutants/$1.patch") >"$work/log" 2>&1; then
		echo "the patch does not apply"
	elif ! (cd "$work/tree" && go build ./pkg/store/... ./pkg/runtime/... ./controllers/...) >"$work/log" 2>&1; then
		echo "does not build"
	else
		local begun=$EPOCHREALTIME status=0
		run "$2" "$3" || status=$?
		local seconds
		seconds=$(awk -v a="$begun" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
		if [ "$status" != 0 ] && grep -qE '^ *--- FAIL|^panic: ' "$work/log"; then
			echo "caught $seconds"
		else
			echo "MISSED $seconds"
		fi
	fi
}

printf '%-5s %-66s %-14s %s\n' fault test verdict 'what is wrong'
while read -r id package tests fault; do
	case $id in '' | '#'*) continue ;; esac
	if [ $# -gt 0 ] && [[ " $* " != *" $id "* ]]; then continue; fi
	fresh
	verdict=$(judge "$id" "$package" "$tests")
	printf '%-5s %-66s %-14s %s\n' "$id" "$package $tests" "$verdict" "$fault"
	case $verdict in
	caught*) grep -m 1 -E '^ +[a-z_]+\.go:[0-9]+: |^panic: ' "$work/log" | cut -c 1-180 | sed 's/^ */      /' ;;
	*)
		missed=$((missed + 1))
		tail -n 20 "$work/log" >&2
		;;
	esac
done <"$TABLE"
[ "$missed" = 0 ] || { echo "mutants.sh: $missed faults were not caught" >&2; exit 1; }
