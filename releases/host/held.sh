# Says what releases are here that a new one can be made from: id, SHA-256 of its list of files and of its manifest.
# Given: root (/srv/<app>).
install -d -m 755 /var/lib/roadbed
for list in "$root"/releases/[!.]*/.roadbed/files.sha256; do
    meta=${list%/*}
    release=${meta%/*}
    [ -f "$list" ] && [ -f "$meta/manifest.json" ] || continue
    sums=$(sha256sum < "$list")
    manifest=$(sha256sum < "$meta/manifest.json")
    echo "${release##*/} ${sums%% *} ${manifest%% *}"
done
