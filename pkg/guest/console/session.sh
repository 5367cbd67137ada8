umask 077
D=$(mktemp -d /tmp/.prx-XXXXXX || mktemp -d /run/.prx-XXXXXX) || D=
trap '[ -z "$D" ] || rm -rf "$D"' 0
trap exit 1 2 15
n() { : >"$D/p"; : >"$D/i"; }
a() { printf '%s\n' "$2" >>"$D/$1"; }
k() { if [ -n "$D" ]; then s "$1 ok"; else s "$1 nodir"; fi; }
s() { printf '\n%s %s\n' "$M" "$1"; }
h() { h=$(sha256sum <"$D/$1"); [ "${h%% *}" = "$2" ]; }
c() { head -c "$1" >"$D/$2"; cat >/dev/null; }
x() {
base64 -d <"$D/p" >"$D/q"
base64 -d <"$D/i" >"$D/j"
if ! h q "$2" || ! h j "$3"; then s "$1 damaged"; return; fi
{ { sh "$D/q" <"$D/j"; echo $? >"$D/r"; } | c "$4" o; } 3>&1 | c "$4" e
s "$1 out $(cat "$D/r") $(wc -c <"$D/o") $(wc -c <"$D/e")"
base64 <"$D/o"
s "$1 err"
base64 <"$D/e"
s "$1 end"
rm -f "$D"/*
}
