"""`provision maintenance`: the page that visitors get instead of the site, on all web hosts at once."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import sudo_password
from .style import output, say

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory
    from roadbed.engine.maintenance import Maintenance


@dataclass(frozen=True)
class Wanted:
    """What the user asked for beside the inventory. ``switch``: on, off, or None to look."""

    switch: str | None = None
    page: Path | None = None
    as_json: bool = False
    ask_sudo_password: bool = False


def run(inventory: str | None, wanted: Wanted) -> None:
    """Switches, and says what every web host answers now. Raises the worst error of a host, after all have tried."""
    from roadbed.engine.load import load
    from roadbed.engine.maintenance import look, switch_off, switch_on
    from roadbed.engine.secrets import Secrets
    from roadbed.engine.start import start

    from .connected import connected

    start()
    page = checked(wanted)
    stack = load(inventory)
    app, web = stack.app, stack.with_role("web")
    secrets, password = Secrets(stack.beside(".secrets.age")), sudo_password(wanted.ask_sudo_password)

    def one(session: Any, _: str) -> "Maintenance":
        if wanted.switch == "on":
            switch_on(session, app, page)
        elif wanted.switch == "off":
            switch_off(session, app)
        return look(session, app)

    # A host that is out of disk, or in the middle of somebody's rollout, is the more in need of it: no preflight, and
    # no lock. No other command touches its flag.
    with connected(
        stack, web, secrets, {}, None, None, password, what="maintenance", lock=False, preflight=False
    ) as hosts:
        answers = hosts.fleet.each(web, one)
    _tell(stack, answers, wanted)


def checked(wanted: Wanted) -> bytes | None:
    """The page of --page. Raises InventoryError, before any host is asked."""
    from roadbed.deploys.maintenance import read_page
    from roadbed.engine.errors import InventoryError

    if wanted.switch not in (None, "on", "off"):
        raise InventoryError(f"maintenance: '{wanted.switch}' is neither on nor off. Leave it out to see what it is")
    if wanted.page is None:
        return None
    if wanted.switch != "on":
        raise InventoryError("--page: is shown while maintenance is on. Say: maintenance on --page FILE")
    try:
        return read_page("--page", wanted.page)
    except ValueError as error:
        raise InventoryError(str(error)) from None


def _tell(stack: "Inventory", answers: "dict[str, Any]", wanted: Wanted) -> None:
    from roadbed.engine.errors import RoadbedError

    failed = {host: answer for host, answer in answers.items() if isinstance(answer, RoadbedError)}
    states = {host: answer for host, answer in answers.items() if host not in failed}
    if wanted.as_json:
        rows = {
            host: {"on": state.on, "since": _iso(state), "own_page": state.own_page} for host, state in states.items()
        }
        output(json.dumps({"hosts": rows, "failed": {host: str(error) for host, error in failed.items()}}, indent=1))
    for host, state in states.items():
        page = ", with the page given by --page" if state.own_page else ""
        since = f"on since {state.since:%Y-%m-%d %H:%M:%S} UTC{page}" if state.on else "off"
        say(f"{host}: maintenance is {since}")
    if failed:
        worst = min(failed.values(), key=lambda error: error.exit_code)
        raise type(worst)("\n".join(str(error) for error in failed.values()))
    if wanted.switch == "on" and (allow := stack.nginx.maintenance.allow):
        say(f"Let in: {', '.join(allow)}")


def _iso(state: "Maintenance") -> str | None:
    return state.since.isoformat() if state.since else None
