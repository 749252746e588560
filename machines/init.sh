#!/bin/sh
# The first program of a rehearsal machine: makes a few places writable that a real machine has writable,
# then becomes systemd.

# cgroup v1 only: systemd-nspawn mounts the controllers read-only, and systemd then ignores MemoryMax=,
# CPUQuota= and TasksMax= without a word. They are this machine's own (cgroup namespace).
for tree in cpu cpuacct cpu,cpuacct memory pids blkio; do
    if [ -d "/sys/fs/cgroup/$tree" ] && [ ! -L "/sys/fs/cgroup/$tree" ]; then
        mount -o remount,bind,rw,nosuid,nodev,noexec "/sys/fs/cgroup/$tree"
    fi
done

# vm.*, fs.*, kernel.* and net.core buffers belong to the control machine's kernel. Private copies take what
# `sysctl --system` writes and give it back when read; they change nothing. The rest of net.* is real, and so
# are the host name, the pseudo-terminals and the random device with this boot's id.
mount --make-rprivate /proc
copies=/run/sysctl-copies
mkdir "$copies"
for tree in vm fs kernel; do
    cp -r --no-preserve=all "/proc/sys/$tree" "$copies/" 2>/dev/null
done
for own in hostname domainname ns_last_pid pty random; do
    [ -e "/proc/sys/kernel/$own" ] && mount --rbind "/proc/sys/kernel/$own" "$copies/kernel/$own"
done
for tree in vm fs kernel; do
    mount --rbind "$copies/$tree" "/proc/sys/$tree"
done
for own in rmem_max wmem_max rmem_default wmem_default optmem_max; do
    if [ -e "/proc/sys/net/core/$own" ]; then
        cat "/proc/sys/net/core/$own" >"$copies/$own"
        mount --bind "$copies/$own" "/proc/sys/net/core/$own"
    fi
done

# Transparent huge pages: the same, for database packages that switch them off.
for own in enabled defrag; do
    if [ -e "/sys/kernel/mm/transparent_hugepage/$own" ]; then
        cat "/sys/kernel/mm/transparent_hugepage/$own" >"$copies/$own"
        mount --bind "$copies/$own" "/sys/kernel/mm/transparent_hugepage/$own"
    fi
done

exec /lib/systemd/systemd
