# What a host has of an app, one fact a line: a word, then its values. Read by releases/host_state.py.
# Given: app, root (/srv/<app>), route (folder of the flag files), migrated (file of the migrations that have run).
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
    echo "release ${release##*/} $state ${digest%% *}"
done
for slot in a b c; do
    if target=$(readlink "$root/slots/$slot"); then echo "slot $slot ${target##*/}"; fi
done
if target=$(readlink "$root/current"); then echo "current ${target##*/}"; fi
if target=$(readlink "$root/public"); then target=${target%/.roadbed/public}; echo "public ${target##*/}"; fi
if [ -f "$root/static.release" ]; then read -r release < "$root/static.release"; echo "static $release"; fi
for flag in "$route"/*; do
    [ ! -f "$flag" ] || echo "flag ${flag##*/}"
done
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
