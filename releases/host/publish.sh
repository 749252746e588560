# Gives nginx the files of a release: adds its client files to those of the kept releases, and
# points public at it. Pages of older releases go on finding theirs.
# Given: root (/srv/<app>), id; link (default: public), for a release that gets only a share of the visitors.
set -eu
mkdir -p "$root/static"
cd "$root/static"
from=$root/releases/$id/.roadbed/static
(cd "$from/" && find . -type d) | while read -r path; do mkdir -p "$path"; done
(cd "$from/" && find . -type f) | while read -r path; do
    if [ "$from/$path" -ef "$path" ]; then continue; fi
    rm -f "$path.roadbed-new"
    ln "$from/$path" "$path.roadbed-new"
    mv -fT "$path.roadbed-new" "$path"
done
if [ -z "${link:-}" ]; then
    echo "$id" > "$root/.static.release.new"
    mv -fT "$root/.static.release.new" "$root/static.release"
fi
ln -sfnT "releases/$id/.roadbed/public" "$root/.public.new"
mv -fT "$root/.public.new" "$root/${link:-public}"
