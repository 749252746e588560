"""`provision remove`: what stays on machines that had every component, against their file trees of before."""

import json
from collections.abc import Callable

import pytest

from roadbed.machines.model import MachineSpec

from .conftest import Stack, spec
from .tiny import page, tiny_stack

HOSTS = [spec("gone-12", 241, "bookworm"), spec("gone-13", 242, "trixie")]
NAMES = [host.name for host in HOSTS]
THEIRS = {
    "/etc/sysctl.d/99-theirs.conf": "vm.swappiness = 42\n",
    "/etc/systemd/journald.conf.d/60-roadbed.conf": "[Journal]\nSystemMaxUse=77M\n",
    "/srv/theirs/file": "kept\n",
}
"""What the machine's owner had before; the second lies where Roadbed writes a file of its own."""
ELSEWHERE = " -o ".join(f"-path {path}" for path in ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp"))  # noqa: S108
TREE = f"find / -xdev \\( {ELSEWHERE} \\) -prune -o -printf '%y %m %U:%G %p %l\\n' | sort -k4"
CONTENT = "find /etc /usr/local /srv /opt -xdev -type f -exec sha256sum {} +"
PACKAGES_OWN = (
    "/etc/alternatives/",
    "/etc/apt/apt.conf.d/02autoremove-postgresql",
    "/etc/apt/apt.conf.d/20auto-upgrades",
    "/etc/apt/apt.conf.d/50unattended-upgrades",
    "/etc/apparmor.d/",
    "/etc/ca-certificates",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/networks",
    "/etc/nginx/",
    "/etc/postgresql-common/",
    "/etc/python3",
    "/etc/rc",
    "/etc/ssl/",
    "/etc/systemd/system/dbus-org.freedesktop.timesync1.service",
    "/etc/systemd/system/multi-user.target.wants/unattended-upgrades.service",
    "/etc/systemd/system/sysinit.target.wants/systemd-timesyncd.service",
    "/home/admin/.sudo_as_admin_successful",
    "/usr/",
    "/var/cache/apt/",
    "/var/cache/debconf/",
    "/var/cache/ldconfig/",
    "/var/cache/man/",
    "/var/cache/postgresql",
    "/var/lib/apt/",
    "/var/lib/dpkg/",
    "/var/lib/nginx",
    "/var/lib/pgbouncer",
    "/var/lib/polkit-1",
    "/var/lib/python",
    "/var/lib/systemd/",
    "/var/lib/ucf/",
    "/var/lib/unattended-upgrades",
    "/var/log/",
    "/var/www",
)
"""Where dpkg, maintainer scripts and systemd write what no package lists."""
ACCOUNTS = {
    f"/etc/{name}{end}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid") for end in ("", "-")
}
"""Packages add users of their own: postgres, redis, _apt."""


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Two machines that have something of their own, and become a phase3: web and data, and app."""
    booted(HOSTS)
    stack = tiny_stack(tmp_path_factory.mktemp("gone"), HOSTS, redis={"cache_memory": 64, "durable_memory": 32})
    for host in HOSTS:
        for path, text in THEIRS.items():
            stack.ssh(host.name, f"mkdir -p $(dirname {path}) && cat > {path}", stdin=text)
        stack.ssh(host.name, "sysctl -q -p /etc/sysctl.d/99-theirs.conf")
    stack.data["hosts"]["gone-12"]["roles"] = ["web", "cache", "pooler", "database"]
    stack.data["hosts"]["gone-13"]["roles"] = ["app", "web"]
    stack.write()
    return stack


def paths(listing: str) -> dict[str, str]:
    """Path -> all that `find` says of it."""
    return {line.split(" ", 3)[3].rpartition(" ")[0]: line for line in listing.splitlines()}


def sums(listing: str) -> dict[str, str]:
    """Path -> SHA-256."""
    return {path: digest for digest, _, path in (line.partition("  ") for line in listing.splitlines())}


def of_packages(stack: Stack, host: str, found: set[str]) -> set[str]:
    """Those of ``found`` that a package lists."""
    words = "\n".join(sorted(found))
    said = stack.ssh(host, "xargs -d '\\n' -n 200 dpkg-query -S 2>/dev/null; true", stdin=words)
    return {line.partition(": ")[2] for line in said.splitlines()}


def installed(stack: Stack, host: str) -> set[str]:
    """The names of its packages."""
    said = stack.ssh(host, "dpkg-query -W -f '${db:Status-Abbrev}${Package}\\n'").splitlines()
    return {line.split()[1] for line in said if line.startswith("ii")}


@pytest.fixture(scope="module")
def packages(stack: Stack) -> dict[str, set[str]]:
    """What was installed before the first run."""
    return {host: installed(stack, host) for host in NAMES}


@pytest.mark.usefixtures("packages")
def test_without_a_yes_nothing_happens(stack: Stack) -> None:
    said = stack.provision("remove", code=6).stderr
    assert "--yes: is required without a terminal. This ends shop.example.test on gone-12, gone-13" in said


def test_a_machine_differs_from_before_only_by_packages_and_logs(stack: Stack) -> None:
    before = {host.name: (paths(stack.ssh(host.name, TREE)), sums(stack.ssh(host.name, CONTENT))) for host in HOSTS}
    stack.converge(phase="phase3")
    assert "Edition one" in page(stack, "gone-12")
    stack.ssh("gone-13", "echo since > /etc/since.conf; echo since > /srv/theirs/since")

    done = json.loads(stack.provision("remove", "--yes", "--with-data", "--json").stdout)
    assert done["failed"] == {}
    for host in NAMES:
        tree, content = paths(stack.ssh(host, TREE)), sums(stack.ssh(host, CONTENT))
        old_tree, old_content = before[host]
        assert set(old_tree) - set(tree) == set(), "what was there is gone"
        new = {path for path in set(tree) - set(old_tree) if not path.startswith(PACKAGES_OWN)}
        new -= {"/etc/since.conf", "/srv/theirs/since"} if host == "gone-13" else set()
        new -= of_packages(stack, host, new) | ACCOUNTS
        assert not new, "was not there: " + " ".join(sorted(new))
        other = {path for path in set(content) & set(old_content) if content[path] != old_content[path]}
        other = {path for path in other if not path.startswith(PACKAGES_OWN)} - ACCOUNTS
        assert not other, "has another content: " + " ".join(sorted(other))
        modes = {path for path in set(tree) & set(old_tree) if tree[path] != old_tree[path]}
        modes = {path for path in modes if not path.startswith(PACKAGES_OWN)} - ACCOUNTS
        assert not modes, "has another mode: " + " ".join(sorted(modes))
    assert stack.ssh("gone-13", "cat /etc/since.conf /srv/theirs/since") == "since\nsince\n"


def test_nothing_of_it_runs(stack: Stack) -> None:
    for host in NAMES:
        assert stack.ssh(host, "ss -Hltn | awk '{print $4}' | grep -vE ':22$'; true").strip() == ""
        assert stack.ssh(host, "sysctl -n vm.swappiness").strip() == "42"
        assert stack.ssh(host, "getent passwd tiny; nft list tables; true").strip() == ""
        assert stack.ssh(host, "systemctl --failed --no-legend; true").strip() == ""
        assert stack.ssh(host, "systemctl is-enabled nginx; true").strip() in ("disabled", "")


def test_again_it_takes_only_what_it_left(stack: Stack) -> None:
    for host, rows in removed(stack).items():
        assert {row["kind"] for row in rows} == {"package"}, host
    assert "packages that stay (--purge removes them): " in stack.provision("remove", "--yes").stderr


def removed(stack: Stack, *flags: str) -> dict[str, list[dict[str, str]]]:
    """What each host was freed of."""
    done = json.loads(stack.provision("remove", "--yes", "--json", *flags).stdout)
    assert done["failed"] == {}
    hosts: dict[str, list[dict[str, str]]] = done["hosts"]
    return hosts


def of(rows: list[dict[str, str]], kind: str) -> set[str]:
    return {row["what"] for row in rows if row["kind"] == kind}


def test_the_machines_can_come_back(stack: Stack) -> None:
    """What was left of Roadbed's is not taken for their owner's."""
    assert "error" not in {
        finding["level"] for finding in json.loads(stack.provision("check", "phase3", "--json").stdout)
    }
    stack.converge(phase="phase3")
    assert "Edition one" in page(stack, "gone-13")
    for host in NAMES:
        assert "nginx\n" not in stack.ssh(host, "cat /var/lib/roadbed/before/packages")
        assert stack.ssh(host, "ls /var/log/roadbed-left 2>&1; true").startswith("ls: cannot access")


def test_purged_without_the_data(stack: Stack) -> None:
    """The packages that hold the data stay with it, and so does what their owner has installed since."""
    stack.ssh("gone-13", "apt-get -q -y install tree >/dev/null")
    hosts = removed(stack, "--purge")
    assert {"nginx", "pgbouncer"} <= of(hosts["gone-12"], "purged")
    assert {"postgresql-15", "redis-server"} <= of(hosts["gone-12"], "package")
    assert {"/var/lib/postgresql", "/var/lib/redis"} <= of(hosts["gone-12"], "kept")
    assert stack.ssh("gone-12", "cat /var/lib/postgresql/15/main/PG_VERSION; ls /var/lib/redis").split()[0] == "15"
    assert "nginx" in of(hosts["gone-13"], "purged")
    assert stack.ssh("gone-13", "which tree").strip() == "/usr/bin/tree"


def test_with_the_data_all_of_it_goes(stack: Stack, packages: dict[str, set[str]]) -> None:
    hosts = removed(stack, "--purge", "--with-data")
    assert {"/var/lib/postgresql", "/var/lib/redis"} <= of(hosts["gone-12"], "data")
    assert installed(stack, "gone-12") == packages["gone-12"]
    assert installed(stack, "gone-13") == packages["gone-13"] | {"tree"}
    assert (
        stack.ssh("gone-12", "ls -d /var/lib/postgresql /var/lib/redis /var/log/roadbed-left 2>/dev/null; true") == ""
    )
    assert "nothing of Roadbed was there" in stack.provision("remove", "--yes").stderr
