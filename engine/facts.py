"""The facts of a host that every component may use, read in one round trip."""

from roadbed.deploys.context import HostFacts

from .errors import OperationFailed
from .session import Session

SCRIPT = """
. /etc/os-release
set -- $(uname -nm)
echo "hostname=$1"
echo "os_id=$ID"
echo "os_version=$VERSION_ID"
echo "codename=$VERSION_CODENAME"
echo "arch=$2"
echo "cpus=$(nproc)"
while read -r key value _; do
  if [ "$key" = MemTotal: ]; then echo "memory=$value"; break; fi
done < /proc/meminfo
limit=
for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
  read -r value 2>/dev/null < $file || continue
  case $value in *[!0-9]*) ;; *) [ "${limit:-$value}" -lt "$value" ] || limit=$value ;; esac
done
echo "limit=$limit"
phase=
read -r phase 2>/dev/null < /var/lib/roadbed/phase
echo "phase=$phase"
set -- $(systemctl --version 2>/dev/null)
echo "systemd=${2%%[!0-9]*}"
"""
"""Run on every host by every run, so what the shell can do by itself is not left to sed and grep."""


def read_facts(session: Session) -> HostFacts:
    """Reads the facts of a host. Raises OperationFailed when it is not a Linux system with os-release(5)."""
    return parse_facts(session.name, session.read(SCRIPT, check=False).out)


def parse_facts(name: str, output: str) -> HostFacts:
    """The facts in the output of ``SCRIPT``. Raises OperationFailed when one is missing."""
    values = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    try:
        memory_kb = int(values["memory"])
        limit_kb = int(values["limit"]) // 1024 if values["limit"] else memory_kb
        return HostFacts(
            hostname=values["hostname"],
            os_id=values["os_id"],
            os_version=values["os_version"],
            codename=values["codename"],
            arch=values["arch"],
            cpus=int(values["cpus"]),
            memory_mb=min(memory_kb, limit_kb) // 1024,
            systemd=int(values["systemd"] or 0),
            phase=values.get("phase", ""),
        )
    except (KeyError, ValueError) as error:
        raise OperationFailed(
            f"{name}: is not a system that Roadbed knows: {error} in its facts. Use Debian 12, 13 or Ubuntu LTS"
        ) from error
