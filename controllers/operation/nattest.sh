# Tests the network from the place of a guest: <own name> <host or nothing> <port> <forbidden>.
# Prints lines "nat-test <part> ok|fail <why>"; exit code 69 when the guest lacks what it takes.
own=$1 host=$2 port=$3 forbidden=$4
for tool in timeout getent; do
	command -v $tool >/dev/null || { echo "the guest has no $tool" >&2; exit 69; }
done
if command -v bash >/dev/null; then
	connect() { timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>&1; }
elif command -v nc >/dev/null; then
	connect() { timeout 5 nc -v -z -w 5 "$1" "$2" 2>&1; }
else
	echo "the guest has neither bash nor nc" >&2
	exit 69
fi
address() { timeout 5 getent ahostsv4 "$1" | while read -r ip _; do echo "$ip"; break; done; }

# Nobody named a target: where the guest gets its packages from it must be able to go.
if [ -z "$host" ]; then
	host=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apk/repositories 2>/dev/null |
		sed -n '/^#/d; s|^.*https\{0,1\}://\([A-Za-z0-9.-]*\).*|\1|p' | head -n 1)
	[ -n "$host" ] || { echo "the guest has no package source; name a target with the argument host" >&2; exit 69; }
fi
echo "nat-test target $host:$port"

mine=$(address "$own")
ip=$(address "$host")
if [ -z "$mine" ]; then
	echo "nat-test dns fail the appliance's own name $own does not resolve"
elif [ -z "$ip" ]; then
	echo "nat-test dns fail $host does not resolve"
else
	echo "nat-test dns ok $host is $ip"
fi

if [ -z "$ip" ]; then
	echo "nat-test tcp fail no address to connect to"
elif why=$(connect "$ip" "$port"); then
	echo "nat-test tcp ok connected"
else
	echo "nat-test tcp fail $(printf '%s' "${why:-no answer within 5 s}" | tail -n 1 | cut -c1-200)"
fi

# Somebody who refuses a connection has been reached.
if why=$(connect "$forbidden" 53); then
	echo "nat-test forbidden fail $forbidden is reached"
else
	case $why in
	*refused*) echo "nat-test forbidden fail $forbidden is reached: it refuses the connection itself" ;;
	*) echo "nat-test forbidden ok $forbidden is not reached" ;;
	esac
fi
