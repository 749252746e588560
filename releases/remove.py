"""Take Roadbed off a host again: see ``host/remove.sh`` and ``deploys/before.py``."""

from dataclasses import dataclass

from roadbed.deploys import base, postgres
from roadbed.deploys.app import AppSettings
from roadbed.engine.errors import OperationFailed
from roadbed.engine.session import Session

from .scripts import script

SECONDS = 600
"""Longest time for a host: apt-get purge takes most of it, and services that drain up to a minute each."""
DATA = ("/var/lib/postgresql", "/etc/postgresql", "/var/lib/redis", "/var/backups/roadbed")
"""What belongs to the app's users: it goes only when that is asked for."""


PACKAGES = (
    *(*base.PACKAGES, "locales", "systemd-timesyncd", "nftables", "gpg", "nodejs", "libjemalloc2"),
    *("nginx", "openssl", "libnginx-mod-http-brotli-filter", "certbot"),
    *("redis-server", "redis-tools", "redis-sentinel", "pgbouncer", "postgresql-client", "postgresql-common"),
    *(f"{kind}-{number}" for number in postgres.VERSIONS.values() for kind in ("postgresql", "postgresql-client")),
)
"""What Roadbed asks apt for, on any system. What these bring with them is known to apt."""


def folders(app: AppSettings) -> tuple[str, ...]:
    """The folders that a stack makes on its hosts, where they were not there before."""
    own = (
        app.root,
        f"/var/cache/{app.name}",
        "/var/cache/nginx",
        "/etc/roadbed",
        "/opt/roadbed",
        "/var/lib/roadbed-build",
    )
    # Of packages that may be purged; what Roadbed had made in them goes in any case.
    return (
        *own,
        "/usr/local/lib/roadbed",
        "/usr/local/share/roadbed",
        "/etc/letsencrypt",
        "/etc/nginx/roadbed.d",
        f"/etc/systemd/system/{app.name}.target.wants",
    )


@dataclass(frozen=True)
class Removed:
    """What a host was freed of: (kind, what) of unit, file, restored, started, folder, account, data, kept, package."""

    items: tuple[tuple[str, str], ...]

    def of(self, *kinds: str) -> list[str]:
        """What is of these kinds."""
        return [what for kind, what in self.items if kind in kinds]


def remove(session: Session, app: AppSettings, *, with_data: bool, purge: bool) -> Removed:
    """Runs it on one host. Raises OperationFailed, with what the host said; a second call goes on."""
    text = script(
        "remove",
        app=app.name,
        folders="\n".join(folders(app)),
        data_folders="\n".join(DATA),
        with_data="yes" if with_data else "no",
        purge="yes" if purge else "no",
        packages="\n".join(PACKAGES),
    )
    result = session.run(f"(\n{text}\n)", timeout=SECONDS, check=False)
    if result.rc == 3:
        return Removed(())
    if not result.ok:
        said = " / ".join((result.err.strip() or result.out.strip()).splitlines()[-5:])
        raise OperationFailed(f"{session.name}: not all of it was removed: {said}. The same command goes on")
    rows = (line.partition(" ") for line in result.out.splitlines())
    return Removed(tuple((kind, what) for kind, _, what in rows if what))
