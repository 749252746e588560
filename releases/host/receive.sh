# Prepares the folder of a new release from those that are here. Says which of its files were found at another path,
# "moved PATH", and which are not here at all, "lacks PATH".
# Given: root (/srv/<app>), id, sums (the uploaded list of files, gzipped, in the format of sha256sum; with base: how
# it differs from that one's), base (a release here, or empty), digest (SHA-256 of the list), apply (the awk program
# that makes a text from another one and the difference), reuse (empty: nothing that is here is taken).
set -eu
renice -n 10 $$ > /dev/null # the site has the CPU first
export LC_ALL=C
mkdir -p "$root/releases" "$root/slots"
# A script of a run that was killed may still be at work.
exec 9>> "$root/.lock"
flock -w 300 9
cd "$root/releases"
rm -rf .[!.]*.partial
partial=.$id.partial
mkdir -p "$partial/.roadbed"
list=$partial/.roadbed/files.sha256
if [ -n "$base" ]; then
    gzip -dc "$sums" | awk "$apply" "$base/.roadbed/files.sha256" - > "$list"
else
    gzip -dc "$sums" > "$list"
fi
rm -f "$sums"
echo "$digest  $list" | sha256sum --check --quiet --strict
wanted=$partial/.wanted
sort "$list" > "$wanted"
tab=$(printf '\t')
: > "$partial/.contents"
for old in */; do
    old=${old%/}
    [ -n "$reuse" ] && [ -f "$old/.roadbed/files.sha256" ] || continue
    # Same content at the same path. A hash takes 64 characters and is followed by two blanks.
    sort "$old/.roadbed/files.sha256" | comm -12 - "$wanted" > "$partial/.same"
    (cd "$old" && cut -c 67- "../$partial/.same" | xargs -r -d '\n' cp -a --reflink=auto --parents -t "../$partial")
    comm -23 "$wanted" "$partial/.same" > "$partial/.left"
    mv "$partial/.left" "$wanted"
    sed "s|  |$tab$old/|" "$old/.roadbed/files.sha256" >> "$partial/.contents"
done
# Same content at another path.
sort -u -t "$tab" -k 1,1 "$partial/.contents" > "$partial/.same"
sed "s/  /$tab/" "$wanted" | sort -t "$tab" -k 1,1 > "$partial/.left"
join -t "$tab" "$partial/.left" "$partial/.same" | while IFS=$tab read -r _ to from; do
    mkdir -p "$(dirname "$partial/$to")"
    cp -a --reflink=auto -T "$from" "$partial/$to"
    echo "moved $to"
done
join -t "$tab" -v 1 "$partial/.left" "$partial/.same" | cut -f 2 | sed 's/^/lacks /'
rm -f "$partial/.contents" "$partial/.same" "$partial/.left" "$wanted"
