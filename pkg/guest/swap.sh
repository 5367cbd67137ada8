#!/bin/sh
# Replaces a file if it still is what the caller read. Run under the file's lock as
#   /bin/sh swap TARGET TEMP SHA256
# Prints "swapped" or "changed"; anything else is a failure that changed nothing.
set -eu
got=$(sha256sum <"$1")
if [ "${got%% *}" != "$3" ]; then
	echo changed
	exit 0
fi
mv -T "$2" "$1"
echo swapped
