# What is owed, was left, or does not run on a host, one fact a line: a word, then its value. Read by releases/status.py.
# Given: root (/srv/<app>).
for debt in /var/lib/roadbed/pending/*; do
    if [ -e "$debt" ]; then echo "pending ${debt##*/}"; fi
done
for partial in "$root"/releases/.*.partial; do
    if [ -d "$partial" ]; then partial=${partial##*/.} && echo "partial ${partial%.partial}"; fi
done
for unit in nginx redis-server@cache redis-server@durable redis-sentinel pgbouncer roadbed-health roadbed-firewall \
    $(find /etc/systemd/system -path '*.wants/postgresql@*.service' -printf '%f ' 2>/dev/null); do
    unit=${unit%.service}.service
    [ "$(systemctl is-enabled "$unit" 2>/dev/null)" = enabled ] || continue
    state=$(systemctl is-active "$unit") || echo "down $unit $state"
done
