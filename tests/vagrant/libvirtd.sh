#!/bin/sh
# Runs libvirtd where no init system does, such as in a container, until it is killed. The settings of this machine's own
# libvirt stay as they are: ours lie over them in a mount namespace.
set -eu
work=$1
mkdir -p "$work" /run/libvirt
cat > "$work/qemu.conf" << 'CONF'
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
dynamic_ownership = 0
stdio_handler = "file"
CONF
# shellcheck disable=SC2016  # for the inner shell
exec unshare --mount sh -c '
  mount --make-rprivate /
  mount --bind "$1/qemu.conf" /etc/libvirt/qemu.conf
  virtlogd &
  exec libvirtd' sh "$work"
