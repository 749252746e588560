# What a host has of an app, one fact a line: a word, then its values. Read by releases/host_state.py.
# Given: app, root (/srv/<app>), route (folder of the flag files), skewed (folder of the kept instances), migrated
# (file of the migrations that have run), domain, port (of the first instance).
echo "arch $(uname -m)"
for place in "$root" /srv /; do
    if [ -d "$place" ]; then break; fi
done
df -Pk "$place" | {
    read -r _
    read -r _ _ _ free _
    echo "free $free"
}
for manifest in "$root"/releases/*/.roadbed/manifest.json; do
    [ -f "$manifest" ] || continue
    meta=${manifest%/*}
    release=${meta%/*}
    state=unknown
    [ ! -f "$meta/state" ] || read -r state < "$meta/state"
    digest=$(sha256sum 2>/dev/null < "$meta/files.sha256") || digest=-
    named=$(sed -n '/^ "deployment_id": /{s/^[^:]*: "\([A-Za-z0-9_-]*\)",$/\1/p;q}' "$manifest")
    echo "release ${release##*/} $state ${digest%% *} ${named:--}"
done
for slot in a b c; do
    if target=$(readlink "$root/slots/$slot"); then echo "slot $slot ${target##*/}"; fi
done
if target=$(readlink "$root/current"); then echo "current ${target##*/}"; fi
if target=$(readlink "$root/public"); then target=${target%/.roadbed/public}; echo "public ${target##*/}"; fi
if [ -f "$root/static.release" ]; then read -r release < "$root/static.release"; echo "static $release"; fi
if [ -f "$root/.switching" ]; then read -r action release < "$root/.switching" && echo "switching $action $release"; fi
for flag in "$route"/*; do
    [ ! -f "$flag" ] || echo "flag ${flag##*/}"
done
for file in "$skewed"/[abc]; do
    [ ! -f "$file" ] || echo "kept ${file##*/}"
done
# Whether nginx could be asked for a release: a change of domain or port reaches it only later in a run.
if systemctl is-active --quiet nginx 2>/dev/null && grep -qs "^ *server_name $domain;$" /etc/nginx/nginx.conf &&
    grep -qs "^ *server .*:$port max_fails=" /etc/nginx/nginx.conf; then
    echo "nginx $domain"
fi
systemctl list-units --all --plain --no-legend --no-pager "$app@*.service" 2>/dev/null |
    while read -r unit _ active _; do
        unit=${unit#"$app@"}
        echo "instance ${unit%.service} $active"
    done
for link in /etc/systemd/system/*.wants/"$app"@*.service; do
    [ -L "$link" ] || continue
    unit=${link##*/"$app@"}
    echo "enabled ${unit%.service}"
done
if [ -e "/var/lib/roadbed/pending/$app" ]; then echo "debt $app"; fi
if [ -f "$migrated" ]; then
    while read -r line; do echo "migrated $line"; done < "$migrated"
fi
# Memory for more instances, in KiB: what the kernel could give, and what the host's own cgroup lets it (v2, then v1).
while read -r key available _; do
    if [ "$key" = MemAvailable: ]; then break; fi
done < /proc/meminfo
for group in /sys/fs/cgroup /sys/fs/cgroup/memory; do
    for names in memory.max:memory.current:inactive_file memory.limit_in_bytes:memory.usage_in_bytes:total_inactive_file; do
        limit=${names%%:*} used=${names#*:}
        read -r limit 2>/dev/null < "$group/$limit" || continue
        read -r used 2>/dev/null < "$group/${used%:*}" || continue
        case $limit in *[!0-9]*) continue ;; esac
        while read -r key value; do
            if [ "$key" = "${names##*:}" ]; then used=$((used - value)); fi
        done < "$group/memory.stat"
        left=$(((limit - used) / 1024))
        if [ "$left" -lt "$available" ]; then available=$left; fi
    done
done
echo "available $available"
