# Completes a release, checks every file, and puts it in place with one rename.
# Given: app, root (/srv/<app>), id, archive, node (path of the binary; empty: none), created (seconds since 1970),
# public and static (folders inside the release), writable (folders inside the release, one a line),
# group (of the app; root on a host that only serves files).
set -eu
renice -n 10 $$ > /dev/null # the site has the CPU first
exec 9>> "$root/.lock"
flock -w 300 9
cd "$root/releases/.$id.partial"
chmod 644 .roadbed/files.sha256
tar -xzf "$archive" --no-same-owner
rm -f "$archive"
# shellcheck disable=SC1091  # host/derive.sh
[ ! -f .derive ] || . ./.derive
sha256sum --check --quiet --strict .roadbed/files.sha256
mkdir -p "$static" "$public"
[ -z "$node" ] || ln -sfT "$node" .roadbed/node
chown -hR root:root .
find . -type d -exec chmod 755 {} +
find . -type f ! -perm -004 -exec chgrp "$group" {} +

# What a running server writes to lives outside; the release itself never changes. That folder belongs to the app,
# which could put a link in the way of root at any moment: so the app's own user fills it.
if [ -n "$writable" ]; then
    install -d -m 750 -o "$app" -g "$app" "/var/cache/$app"
    rm -rf "/var/cache/$app/$id"
fi
echo "$writable" | while read -r path; do
    [ -n "$path" ] || continue
    cache=/var/cache/$app/$id/$path
    # shellcheck disable=SC2016  # the inner shell expands it
    setpriv --reuid="$app" --regid="$app" --clear-groups --no-new-privs sh -euc '
        mkdir -p "$1"
        [ ! -d "$2" ] || cp -a "$2/." "$1/"
        find "$1" -exec touch -h -d "@$3" {} +
    ' sh "$cache" ".roadbed/seed/$path" "$created"
    mkdir -p "$(dirname "$path")"
    ln -sfT "$cache" "$path"
done
find . -exec touch -h -d "@$created" {} +
sync -f .
cd ..
[ ! -e "$id" ] || mv -T "$id" ".$id.replaced.partial"
mv -T ".$id.partial" "$id"
