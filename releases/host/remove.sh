# Takes away what Roadbed put on this host; what its files replaced comes back. Says "<kind> <what>" for each.
# Given: app, folders (one a line), data_folders (one a line), with_data, purge (yes or no).
before=/var/lib/roadbed/before
if [ ! -e "$before/packages" ]; then
  echo "nothing of Roadbed is here, or it came before it kept what it replaced: no $before" >&2
  exit 3
fi

was_there() { grep -Fqx -- "$1" "$before/$2"; }

# --- 1. What runs. ---
own_units() { find "$before/absent/etc/systemd/system" -maxdepth 1 -type f 2>/dev/null | sed 's|.*/||'; }

stop_unit() {
  case $1 in
    *@.*) pattern="${1%%@.*}@*.${1##*.}" ;;
    *) pattern=$1 ;;
  esac
  systemctl list-units --all --plain --no-legend "$pattern" | awk '{print $1}' | while read -r unit; do
    systemctl stop "$unit" || exit 1
  done || exit 1
  case $1 in
    *@.*) find /etc/systemd/system -type l -path "*.wants/$pattern" -delete ;; # of instances, which are no unit files
    *) systemctl disable --quiet "$1" 2>/dev/null ;;
  esac
  echo "unit $1"
}

for unit in $(own_units | grep '\.timer$') $(own_units | grep -v '\.timer$'); do
  stop_unit "$unit" || exit 1
done
for unit in nginx.service redis-server@.service redis-sentinel.service pgbouncer.service postgresql@.service \
  postgresql.service certbot.timer; do
  package=$(dpkg-query -S "/lib/systemd/system/$unit" "/usr/lib/systemd/system/$unit" 2>/dev/null | head -n 1)
  package=${package%%:*}
  [ -n "$package" ] && ! was_there "$package" packages && { stop_unit "$unit" || exit 1; }
done

# --- 2. Files: those that were there before come back, the others go. ---
own_folders() { # the folders above a file that nobody else has a part in
  folder=$(dirname "$1")
  while [ "$folder" != / ] && ! was_there "$folder" folders && ! dpkg-query -S "$folder" >/dev/null 2>&1; do
    rmdir "$folder" 2>/dev/null || break
    folder=$(dirname "$folder")
  done
}

find "$before/absent" -type f 2>/dev/null | sed "s|^$before/absent||" | while read -r path; do
  if [ -e "$path" ] || [ -L "$path" ]; then
    rm -f -- "$path" || exit 1
    echo "file $path"
  fi
  own_folders "$path"
done || exit 1
find "$before/files" ! -type d 2>/dev/null | sed "s|^$before/files||" | while read -r path; do
  mkdir -p -- "$(dirname "$path")" && cp -a --remove-destination -- "$before/files$path" "$path" || exit 1
  echo "restored $path"
done || exit 1

systemctl daemon-reload
systemctl reset-failed 2>/dev/null
[ -s "$before/sysctl" ] && sysctl -q -e -p "$before/sysctl" >/dev/null
systemctl try-restart systemd-journald
sshd -t && systemctl try-reload-or-restart ssh
for unit in nginx redis-server redis-sentinel pgbouncer postgresql; do # with the settings of their owner again
  if was_there $unit.service units && ! systemctl -q is-enabled $unit; then systemctl enable --quiet $unit; fi
  if was_there $unit.service running; then
    systemctl restart $unit || { echo "$unit.service ran before, and does not start" >&2; exit 1; }
    echo "started $unit.service"
  fi
done

# --- 3. Folders, accounts, packages. ---
printf '%s\n' "$folders" | while read -r path; do
  if [ -n "$path" ] && [ -e "$path" ] && ! was_there "$path" folders; then
    rm -rf --one-file-system -- "$path" || exit 1
    echo "folder $path"
  fi
done || exit 1
printf '%s\n' "$data_folders" | while read -r path; do
  [ -n "$path" ] && [ -e "$path" ] && ! was_there "$path" folders || continue
  if [ "$with_data" = yes ]; then
    rm -rf --one-file-system -- "$path" || exit 1
    echo "data $path"
  else
    echo "kept $path"
  fi
done || exit 1
if getent passwd "$app" >/dev/null && ! was_there "$app" accounts; then
  pkill -KILL -u "$app" 2>/dev/null
  userdel "$app" || exit 1
  echo "account $app"
fi
if getent group "$app" >/dev/null && ! was_there "$app" groups; then groupdel "$app"; fi
installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii *//p' | sort -u |
  comm -13 "$before/packages" -)
if [ "$purge" = yes ] && [ -n "$installed" ]; then
  # shellcheck disable=SC2086  # names of packages
  DEBIAN_FRONTEND=noninteractive apt-get -q -y purge $installed </dev/null >/dev/null || exit 1
  # shellcheck disable=SC2086
  printf 'purged %s\n' $installed
elif [ -n "$installed" ]; then
  # shellcheck disable=SC2086
  printf 'package %s\n' $installed
fi
rm -rf /run/roadbed /var/lib/roadbed
