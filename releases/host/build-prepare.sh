# Makes what a build on this host needs, unless it is there, and says what is there already, one fact a line.
# Given: base (folder of all builds), run (folder in memory), user (of builds), app.
set -eu
command -v systemd-run > /dev/null || { echo "there is no systemd-run here" >&2; exit 1; }
getent passwd "$user" > /dev/null || useradd --system --user-group --no-create-home --home-dir "$base" \
    --shell /usr/sbin/nologin "$user"
install -d -m 755 "$base" "$base/tools" "$run"
install -d -m 750 -g "$user" "$base/incoming"
install -d -m 700 -o "$user" -g "$user" "$base/packages" "$base/$app"
# What a run that was killed has left.
find "$base/incoming" "$run" -mindepth 1 -delete
rm -rf "$base"/tools/*.partial
while read -r key value _; do
    if [ "$key" = MemAvailable: ]; then echo "available $((value / 1024))"; fi
done < /proc/meminfo
df -Pk "$base" | {
    read -r _
    read -r _ _ _ free _
    echo "free $((free / 1024))"
}
for tool in "$base"/tools/*/; do
    if [ -d "$tool" ]; then echo "tool $(basename "$tool")"; fi
done
