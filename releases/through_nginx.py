"""Whether nginx serves a release: each web host asks its own nginx, and the answers have to name the release."""

from roadbed.deploys.app import AppSettings
from roadbed.engine.errors import OperationFailed
from roadbed.engine.session import Session

from .host_state import HostState
from .scripts import script

TIMES = 5
"""Questions: several workers of nginx and several instances take turns."""
MAINTENANCE = "maintenance"
"""Flag in ``AppSettings.route``: visitors get a page of nginx."""


def verify(session: Session, app: AppSettings, release: str, state: HostState, *, named: str = "") -> None:
    """Raises OperationFailed, with what was answered instead, when nginx on this host does not serve ``release``.

    ``named`` is the deployment id that the requests name, as those of a page do.
    """
    health = "" if MAINTENANCE in state.flags else app.health
    text = script("through-nginx", domain=app.domain, release=release, health=health, times=str(TIMES), named=named)
    said = session.run(text, timeout=120).out.strip()
    if said:
        first, *more = said.splitlines()
        evidence = "".join(f"\n  {line}" for line in more)
        raise OperationFailed(f"{session.name}: through nginx, {first}, and not {release}{evidence}")
