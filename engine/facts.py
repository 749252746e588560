"""The facts of a host that every component may use, read in one round trip."""

from roadbed.deploys.context import HostFacts

from .errors import OperationFailed
from .session import Session

SCRIPT = """
. /etc/os-release
echo "hostname=$(uname -n)"
echo "os_id=$ID"
echo "os_version=$VERSION_ID"
echo "codename=$VERSION_CODENAME"
echo "arch=$(uname -m)"
echo "cpus=$(nproc)"
echo "memory=$(sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)"
limits="/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"
echo "limit=$(cat $limits 2>/dev/null | grep -x '[0-9]*' | sort -n | head -n 1)"
echo "phase=$(cat /var/lib/roadbed/phase 2>/dev/null)"
echo "systemd=$(systemctl --version 2>/dev/null | sed -n '1s/systemd \\([0-9]*\\).*/\\1/p')"
"""


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
