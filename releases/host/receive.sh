# Prepares the folder of a new release and says which of its files the host lacks, one path a line.
# Given: root (/srv/<app>), id, sums (the uploaded list of files, in the format of sha256sum).
set -eu
renice -n 10 $$ > /dev/null # the site has the CPU first
export LC_ALL=C
mkdir -p "$root/releases" "$root/slots"
# A script of a run that was killed may still be at work.
exec 9> "$root/.lock"
flock -w 300 9
cd "$root/releases"
rm -rf .[!.]*.partial
partial=.$id.partial
mkdir -p "$partial/.roadbed"
mv "$sums" "$partial/.roadbed/files.sha256"
wanted=$partial/.wanted
sort "$partial/.roadbed/files.sha256" > "$wanted"
for old in */; do
    old=${old%/}
    [ -f "$old/.roadbed/files.sha256" ] || continue
    # Same content at the same path. A hash takes 64 characters and is followed by two blanks.
    sort "$old/.roadbed/files.sha256" | comm -12 - "$wanted" > "$partial/.same"
    (cd "$old" && cut -c 67- "../$partial/.same" | xargs -r -d '\n' cp -a --reflink=auto --parents -t "../$partial")
    comm -23 "$wanted" "$partial/.same" > "$partial/.left"
    mv "$partial/.left" "$wanted"
done
cut -c 67- "$wanted"
