#!/bin/sh
# Puts files in place that were unpacked beside their final names. Run as
#   /bin/sh STAGE/install
# where STAGE ends in -ID and holds "manifest": one line per file,
#   N SHA256 OWNER PATH
# The new content of PATH lies in PATH's directory as .prx-ID-N, with its final mode.
# First everything is checked, then everything is renamed: a failure changes nothing.
set -u
umask 022
stage=${0%/*}
id=${stage##*-}

each() {
	while read -r n sum owner path; do
		temp=${path%/*}/.prx-$id-$n
		"$1" || return 1
	done <"$stage/manifest"
}

check() {
	got=$(sha256sum <"$temp") || return 1
	if [ "${got%% *}" != "$sum" ]; then
		echo "$path: arrived damaged" >&2
		return 1
	fi
	if [ -d "$path" ]; then
		echo "$path: is a directory" >&2
		return 1
	fi
	chown "$owner" "$temp" || return 1
	# Old tools cannot sync a single file; then the file system's own order must do.
	sync "$temp" 2>/dev/null || :
}

place() { mv -f "$temp" "$path"; }

discard() { rm -f "$temp"; }

result=0
if ! each check || ! each place; then
	each discard
	result=1
fi
rm -rf "$stage"
# What a run that was killed left behind. A day is longer than any run takes.
find "${stage%/*}" -maxdepth 1 -name 'stage-*' -mtime +0 -exec rm -rf {} + 2>/dev/null || :
exit $result
