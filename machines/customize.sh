#!/bin/sh
# Finishes a base image: mmdebstrap runs this with the image's root folder as the only argument.
# Makes what a cloud image has on its first boot: an `admin` user with sudo and no password, sshd for keys
# only, no identity (host keys and machine id are each machine's own) and no package lists.
set -eu
root=$1

chroot "$root" useradd --create-home --shell /bin/bash --groups sudo admin
echo 'admin ALL=(ALL:ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/90-admin"
chmod 0440 "$root/etc/sudoers.d/90-admin"
echo 'PasswordAuthentication no' >"$root/etc/ssh/sshd_config.d/50-key-only.conf"

echo 'LANG=C.UTF-8' >"$root/etc/default/locale"

rm -f "$root"/etc/ssh/ssh_host_*
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"

# mmdebstrap leaves its own settings.
rm -f "$root"/etc/apt/apt.conf.d/99mmdebstrap "$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/periodic
