# Completes a release, checks every file, and puts it in place with one rename.
# Given: app, root (/srv/<app>), id, archive, node (path of the binary; empty: none), created (seconds since 1970),
# public and static (folders inside the release), writable (folders inside the release, one a line),
# group (of the app; root on a host that only serves files).
set -eu
exec 9> "$root/.lock"
flock -w 300 9
cd "$root/releases/.$id.partial"
rm -f .wanted .same .left
chmod 644 .roadbed/files.sha256
tar -xzf "$archive" --no-same-owner
rm -f "$archive"
sha256sum --check --quiet --strict .roadbed/files.sha256
mkdir -p "$static" "$public"
[ -z "$node" ] || ln -sfT "$node" .roadbed/node
chown -hR root:root .
find . -type d -exec chmod 755 {} +
find . -type f ! -perm -004 -exec chgrp "$group" {} +

# What a running server writes to lives outside; the release itself never changes.
echo "$writable" | while read -r path; do
    [ -n "$path" ] || continue
    cache=/var/cache/$app/$id/$path
    rm -rf "$cache"
    mkdir -p "$cache" "$(dirname "$path")"
    [ ! -d ".roadbed/seed/$path" ] || cp -a ".roadbed/seed/$path/." "$cache/"
    find "$cache" -exec touch -h -d "@$created" {} +
    ln -sfT "$cache" "$path"
done
if [ -d "/var/cache/$app/$id" ]; then
    chown "$app:$app" "/var/cache/$app"
    chown -hR "$app:$app" "/var/cache/$app/$id"
fi
find . -exec touch -h -d "@$created" {} +
sync -f .
cd ..
[ ! -e "$id" ] || mv -T "$id" ".$id.replaced.partial"
mv -T ".$id.partial" "$id"
