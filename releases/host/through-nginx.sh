# Asks nginx on this host for the health page of the app and of its instances, as a visitor would, and prints the first
# answer that is not of the expected release, once a second try has found one too. Nothing is printed when all are.
# Given: domain, release, health (path; empty: only the instances' own), times, named (deployment id that the requests
# name; empty: none).
set -u
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
# A cookie, so that no page comes from the cache. Loopback alone sees which release has answered.
ask() {
    : > "$folder/head"
    : > "$folder/body"
    status=$(curl --disable -ksS --max-time 20 --noproxy '*' --resolve "$domain:443:127.0.0.1" -H 'Cookie: roadbed=verify' \
        -H "X-Deployment-Id: $named" -o "$folder/body" -D "$folder/head" -w '%{http_code}' "https://$domain$1" 2> "$folder/error")
    answered=$(sed -n 's/^x-roadbed-release:[[:space:]]*\([A-Za-z0-9_-]*\).*$/\1/Ip' "$folder/head" | tail -n 1)
}
good() {
    ask /.roadbed/health
    [ "$status" = 200 ] && [ "$answered" = "$release" ] || { path=/.roadbed/health; return 1; }
    [ -n "$health" ] || return 0
    ask "$health"
    [ "$status" -ge 200 ] && [ "$status" -lt 400 ] && [ "${answered:-$release}" = "$release" ] || { path=$health; return 1; }
}
all_good() {
    count=0
    while [ "$count" -lt "$times" ]; do
        good || return 1
        count=$((count + 1))
    done
}
all_good && exit 0
sleep 2
all_good && exit 0
echo "$path answered HTTP $status${answered:+ from release $answered}"
head -n 5 "$folder/error" "$folder/body" 2>/dev/null | cut -c 1-300 | sed '/^==>/d;/^$/d'
echo "end of nginx's error log:"
tail -n 5 /var/log/nginx/error.log 2>/dev/null | cut -c 1-300
