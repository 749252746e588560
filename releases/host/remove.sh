# Takes away what Roadbed put on this host; what its files replaced comes back. Says "<kind> <what>" for each.
# Given: app, folders, data_folders, packages (one a line), with_data, purge (yes or no).
export LC_ALL=C # for sort and comm
before=/var/lib/roadbed/before
left=/var/log/roadbed-left # what an earlier call left here: a second one takes only that
if [ ! -e "$before/packages" ] && [ ! -e "$left/packages" ]; then
  echo "nothing of Roadbed is here, or it came before it kept what it replaced: no $before" >&2
  exit 3
fi

was_there() { grep -Fqxs -- "$1" "$before/$2"; }

# --- 1. What runs. ---
own_units() { find "$before/absent/etc/systemd/system" -maxdepth 1 -type f 2>/dev/null | sed 's|.*/||'; }

units_like() { systemctl list-units --all --plain --no-legend "$1" | awk '{print $1}'; }

stop_own() { # a unit that Roadbed wrote, or a template with all of its instances
  case $1 in
    *@.*) pattern="${1%%@.*}@*.${1##*.}" ;;
    *) pattern=$1 ;;
  esac
  for unit in $(units_like "$pattern"); do systemctl stop "$unit" || return 1; done
  case $1 in
    *@.*) find /etc/systemd/system -type l -path "*.wants/$pattern" -delete ;; # of instances, which are no unit files
    *) systemctl disable --quiet "$1" 2>/dev/null ;;
  esac
  echo "unit $1"
}

stop_others() { # units of packages, unless they were active before
  for unit in $(units_like "$1"); do
    was_there "$unit" active && continue
    systemctl stop "$unit" || return 1
    was_there "$unit" units || systemctl disable --quiet "$unit" 2>/dev/null
    echo "unit $unit"
  done
}

if [ -e "$before/packages" ]; then
  for unit in $(own_units | grep '\.timer$') $(own_units | grep -v '\.timer$'); do
    stop_own "$unit" || exit 1
  done
  for pattern in nginx.service 'redis-server@*.service' redis-sentinel.service pgbouncer.service \
    'postgresql@*.service' postgresql.service certbot.timer; do
    stop_others "$pattern" || exit 1
  done
  for unit in redis-server@cache.service redis-server@durable.service; do # also where they do not run
    was_there "$unit" active || systemctl disable --quiet "$unit" 2>/dev/null
  done
fi

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

if [ -e "$before/packages" ]; then
  systemctl daemon-reload
  systemctl reset-failed 2>/dev/null
  [ -s "$before/sysctl" ] && sysctl -q -e -p "$before/sysctl" >/dev/null
  systemctl try-restart systemd-journald
  if systemctl -q is-active ssh.socket; then sshd -t && systemctl try-restart ssh # deploys/sshd.py says why
  else sshd -t && systemctl try-reload-or-restart ssh; fi
  for name in nginx redis-server redis-sentinel pgbouncer; do
    if was_there $name.service units && ! systemctl -q is-enabled $name; then systemctl enable --quiet $name; fi
  done
  # With the settings of their owner again.
  grep -xE '(nginx|redis-server|redis-sentinel|pgbouncer|postgresql@.*)\.service' "$before/active" | while read -r unit; do
    systemctl restart "$unit" || { echo "$unit ran before, and does not start: journalctl -u $unit" >&2; exit 1; }
    echo "started $unit"
  done || exit 1
fi

# --- 3. Folders and accounts. ---
printf '%s\n' "$folders" | while read -r path; do
  if [ -n "$path" ] && [ -e "$path" ] && [ -e "$before/packages" ] && ! was_there "$path" folders; then
    rm -rf --one-file-system -- "$path" || exit 1
    echo "folder $path"
  fi
done || exit 1
own_data() { # Roadbed's, and not somebody's who had a database here before
  printf '%s\n' "$data_folders" | while read -r path; do
    [ -n "$path" ] && [ -e "$path" ] || continue
    if [ -e "$before/packages" ]; then was_there "$path" folders || echo "$path"
    elif grep -Fqxs -- "$path" "$left/folders"; then echo "$path"; fi
  done
}
kept=
for path in $(own_data); do
  if [ "$with_data" = yes ]; then
    rm -rf --one-file-system -- "$path" || exit 1
    echo "data $path"
  else
    kept="$kept$path
"
    echo "kept $path"
  fi
done
if [ -e "$before/packages" ]; then
  if getent passwd "$app" >/dev/null && ! was_there "$app" accounts; then
    pkill -KILL -u "$app" 2>/dev/null
    userdel "$app" || exit 1
    echo "account $app"
  fi
  if getent group "$app" >/dev/null && ! was_there "$app" groups; then groupdel "$app"; fi
fi

# --- 4. Packages: those that Roadbed asked for, and what came with them, as far as no other package needs them. ---
installed() { dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii *//p' | sort -u; }
of_apt() { apt-get -s -q "$@" 2>/dev/null | sed -n 's/^\(Purg\|Remv\) \([^ :]*\).*/\2/p' | sort -u; }
ours() { # of those that were not there before, when those of names like $1 stay
  printf '%s\n' "$packages" | sort -u > "$work/asked"
  installed > "$work/installed"
  if [ -e "$before/packages" ]; then
    sort -u "$before/packages" | comm -13 - "$work/installed"
  else
    sort -u "$left/packages" | comm -12 - "$work/installed"
  fi > "$work/new"
  # apt says what it would remove if nobody had asked for them. Its notes on who did are a copy, and what packages say
  # of themselves is left out: those of PostgreSQL and kernels would never be removed.
  cat /var/lib/apt/extended_states > "$work/states" 2>/dev/null
  printf '%s;\n' 'Dir::Etc::main "/dev/null"' "Dir::Etc::parts \"$work/none\"" \
    "Dir::State::extended_states \"$work/states\"" 'APT::AutoRemove::RecommendsImportant "false"' \
    'APT::AutoRemove::SuggestsImportant "false"' > "$work/apt.conf"
  asked=$(comm -12 "$work/asked" "$work/new" | grep -vE "$1")
  # shellcheck disable=SC2086  # names of packages
  [ -z "$asked" ] || APT_CONFIG=$work/apt.conf apt-mark auto $asked >/dev/null || return 1
  APT_CONFIG=$work/apt.conf of_apt autoremove --purge | comm -12 - "$work/new" | grep -v '^linux-'
}
work=$(mktemp -d) || exit 1
ours '^$' > "$work/ours"
if [ -n "$kept" ]; then ours '^(postgresql|redis)'; else cat "$work/ours"; fi > "$work/purge" # data goes with its package
if [ "$purge" = yes ] && [ -s "$work/purge" ]; then
  # shellcheck disable=SC2046  # names of packages
  others=$(of_apt purge $(cat "$work/purge") | comm -13 "$work/purge" - | tr '\n' ' ')
  if [ -n "$others" ]; then
    echo "packages: these need some of them, and nothing was purged: $others" >&2
    rm -rf "$work"
    exit 1
  fi
  # shellcheck disable=SC2046
  DEBIAN_FRONTEND=noninteractive apt-get -q -y purge $(cat "$work/purge") </dev/null >/dev/null || exit 1
  sed 's/^/purged /' "$work/purge"
  installed | comm -12 "$work/ours" - > "$work/stay"
else
  cp "$work/ours" "$work/stay"
fi
sed 's/^/package /' "$work/stay"

# --- 5. What is left of Roadbed's is written down, for a second call and for Roadbed itself if it comes back. ---
rm -rf "$left"
if [ -n "$kept" ] || [ -s "$work/stay" ]; then
  mkdir -p "$left" && cp "$work/stay" "$left/packages" && printf '%s' "$kept" > "$left/folders" || exit 1
fi
rm -rf "$work" /run/roadbed /var/lib/roadbed
