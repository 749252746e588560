# Begins to upgrade the packages, in a unit of its own that goes on when the connection breaks; one that runs is left.
# Given: unit, log (file of what apt says), result (file of its exit code).
set -eu
if systemctl --quiet is-active "$unit"; then exit 0; fi
rm -f "$result"
systemctl reset-failed "$unit" 2> /dev/null || :
# shellcheck disable=SC2016  # the inner shell expands it
systemd-run --quiet --collect --unit="$unit" --setenv=DEBIAN_FRONTEND=noninteractive \
    --setenv=NEEDRESTART_SUSPEND=1 --setenv=APT_LISTCHANGES_FRONTEND=none sh -c '
    exec > "$1" 2>&1
    code=0
    dpkg --force-confdef --force-confold --configure -a &&
        apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \
            -o Dpkg::Options::=--force-confold upgrade --with-new-pkgs || code=$?
    sync
    echo "$code" > "$2.new"
    mv -f "$2.new" "$2"
' sh "$log" "$result"
