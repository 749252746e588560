# The releases of a host: of each its state and the head of its manifest, all that comes before the routes; then the
# history, oldest line first. Read by releases/on_hosts.py.
# Given: root (/srv/<app>).
for manifest in "$root"/releases/*/.roadbed/manifest.json; do
    [ -f "$manifest" ] || continue
    meta=${manifest%/*}
    release=${meta%/*}
    state=unknown
    [ ! -f "$meta/state" ] || read -r state < "$meta/state"
    echo "@release ${release##*/} $state"
    sed '/^ "routes": \[/,$d' "$manifest"
    printf '\n@end\n'
done
[ ! -f "$root/history" ] || sed 's/^/@history /' "$root/history"
