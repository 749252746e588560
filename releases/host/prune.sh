# Removes releases that are not kept, what they cached, and the client files only they had.
# Given: app, root (/srv/<app>), keep (ids, one a line).
set -eu
renice -n 10 $$ > /dev/null # the site has the CPU first
export LC_ALL=C
exec 9>> "$root/.lock"
flock -w 300 9
cd "$root/releases"
rm -rf .[!.]*.partial
for release in */; do
    release=${release%/}
    if [ "$release" = '*' ] || echo "$keep" | grep -qxF -e "$release"; then continue; fi
    rm -rf "$release" "/var/cache/$app/$release"
    echo "$release"
done
for slot in "$root"/slots/*; do
    if [ -L "$slot" ] && [ ! -e "$slot" ]; then rm -f "$slot"; fi
done
if [ -d "$root/static" ]; then
    list=$(mktemp -d)
    trap 'rm -rf "$list"' EXIT
    for release in */; do
        [ ! -d "$release/.roadbed/static/" ] || find "$release/.roadbed/static/" -type f -printf '%P\n'
    done | sort -u > "$list/kept"
    cd "$root/static"
    find . -type f -printf '%P\n' | sort | comm -13 "$list/kept" - | xargs -r -d '\n' rm -f
    find . -mindepth 1 -type d -empty -delete
fi
