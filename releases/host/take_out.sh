# Has nginx on this web host send nothing more to one app host, for some seconds: no new connection is let through,
# and kept ones end with their next answer. Other users, such as the health service, still reach it.
# Given: family (ip or ip6), address, ports (first-last), nginx (its user), flag (file), seconds.
set -eu
mkdir -p "${flag%/*}"
systemctl stop 'roadbed-drain-*.timer'
# shellcheck disable=SC2016  # the inner shell expands it
systemd-run --quiet --collect --unit="roadbed-drain-$$" --on-active="$seconds" --timer-property=AccuracySec=1s \
    sh -c 'nft delete table inet roadbed_drain; rm -f "$1"' sh "$flag"
nft -f - << TABLE
table inet roadbed_drain
delete table inet roadbed_drain
table inet roadbed_drain {
	chain output {
		type filter hook output priority filter; policy accept;
		tcp flags & (syn | ack) == syn meta skuid "$nginx" $family daddr $address tcp dport $ports counter reject with tcp reset
	}
}
TABLE
: > "$flag"
