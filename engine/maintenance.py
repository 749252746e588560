"""Maintenance mode of a web host: the flag file that nginx looks for, and the page of this one time beside it."""

from dataclasses import dataclass
from datetime import UTC, datetime

from roadbed.deploys.app import AppSettings
from roadbed.deploys.maintenance import FLAG, OWN_PAGE

from .session import Session


@dataclass(frozen=True)
class Maintenance:
    """What a web host answers. ``since`` is None when it is the site; ``own_page`` is one given with --page."""

    since: datetime | None
    own_page: bool

    @property
    def on(self) -> bool:
        """Whether visitors get the page."""
        return self.since is not None


def look(session: Session, app: AppSettings) -> Maintenance:
    """The present state of a web host. Raises HostUnreachable."""
    asked = f"stat -c %Y {app.route}/{FLAG} 2>/dev/null; [ ! -f {app.route}/{OWN_PAGE} ] || echo page"
    words = session.run(asked).out.split()
    since = next((datetime.fromtimestamp(int(word), UTC) for word in words if word.isdigit()), None)
    return Maintenance(since, since is not None and "page" in words)


def switch_on(session: Session, app: AppSettings, page: bytes | None) -> None:
    """Has nginx answer 503 from the next request on; what it is answering goes on. Without ``page``: the one of the
    inventory. A host on which it is on already keeps its time. Raises OperationFailed, HostUnreachable."""
    if page is not None:
        session.write(f"{app.route}/{OWN_PAGE}", page)
    else:
        session.run(f"rm -f {app.route}/{OWN_PAGE}")
    session.run(f"[ -f {app.route}/{FLAG} ] || {{ : > {app.route}/{FLAG} && sync -f {app.route}; }}")


def switch_off(session: Session, app: AppSettings) -> None:
    """Gives the site back: first the flag goes, then the page. Raises OperationFailed, HostUnreachable."""
    session.run(f"rm -f {app.route}/{FLAG} && rm -f {app.route}/{OWN_PAGE}")
