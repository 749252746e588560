# What patching this host would do, one fact a line.
# Given: marker (file of a host that is being patched), unit (in which an upgrade runs).
set -eu
echo "boot $(cat /proc/sys/kernel/random/boot_id)"
echo "kernel $(uname -r)"
[ ! -e /run/reboot-required ] || echo required
[ ! -e "$marker" ] || echo left
! systemctl --quiet is-active "$unit" || echo busy
# New packages that an upgrade wants, such as the next kernel, are installed; nothing is removed. Conf: one that is
# installed and not yet configured, as an upgrade that failed leaves it.
said=$(apt-get -s -q upgrade --with-new-pkgs)
echo "$said" | while read -r word name _; do
    case $word in Inst | Conf) echo "package $name" ;; esac
done
