# Gives a slot a share of the visitors of this web host. May be repeated; it adds before it removes.
# Given: root (/srv/<app>), route (folder of the flag files), switch (the flag without which the others do not count),
# flags (their names, one a line), releases (name of a link to public files and the release, one pair a line).
set -eu
mkdir -p "$route"
chmod 755 "$route"
echo "$releases" | while read -r link release; do
    [ -n "$link" ] || continue
    ln -sfnT "releases/$release/.roadbed/public" "$root/.$link.new"
    mv -fT "$root/.$link.new" "$root/$link"
done
cd "$route"
for flag in $flags; do : > "$flag"; done
: > "$switch"
for flag in canary.*.* named.*.*; do
    echo "$flags" | grep -qxF -e "$flag" || rm -f "$flag"
done
