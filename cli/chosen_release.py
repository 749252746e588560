"""Which release a command is about: from another source, built before on this machine, or as the hosts have it."""

from pathlib import Path
from typing import TYPE_CHECKING

from .connected import Hosts

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory
    from roadbed.engine.secrets import Secrets
    from roadbed.releases.artefact import Artefact
    from roadbed.releases.host_state import HostState
    from roadbed.releases.on_hosts import Known


def look(hosts: Hosts) -> "tuple[list[Known], dict[str, HostState]]":
    """The releases of the connected app and web hosts, and the states of these hosts. Raises what a host raises."""
    from roadbed.engine.errors import HostUnreachable, RoadbedError
    from roadbed.releases import on_hosts
    from roadbed.releases.host_state import inspect

    fleet, app = hosts.fleet, hosts.fleet.inventory.app
    names = [name for name in fleet.inventory.with_role("app", "web") if name in fleet.sessions]
    if not any("app" in fleet.inventory.roles_of(name) for name in names):
        raise next(iter(fleet.failures.values()), HostUnreachable("no app host is connected"))
    answers = fleet.each(names, lambda session, _: (on_hosts.ask(session, app), inspect(session, app)))
    for answer in answers.values():
        if isinstance(answer, RoadbedError):
            raise answer
    good = {name: answer for name, answer in answers.items() if not isinstance(answer, RoadbedError)}
    states = {name: state for name, (_, state) in good.items()}
    return on_hosts.known({name: listed for name, (listed, _) in good.items()}, states), states


def with_source(stack: "Inventory", source: str) -> "Inventory":
    """The same stack with another ``app.source``; a path is relative to the working folder here.

    Raises InventoryError for a source that cannot be one.
    """
    from pydantic import ValidationError

    from roadbed.deploys.source import git_source
    from roadbed.engine.errors import InventoryError

    try:
        place = source if git_source(source) else str(Path(source).expanduser().absolute())
        return stack.with_source(place)
    except ValidationError as error:
        raise InventoryError(f"--source: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    except ValueError as error:
        raise InventoryError(f"--source: {error}") from None


def built_before(stack: "Inventory", release: str) -> "Artefact | None":
    """The release, if this machine has it."""
    from roadbed.releases.artefact import cached

    return next((one for one in cached(stack.app.name) if one.release == release), None)


def deployed_before(hosts: Hosts, release: str) -> "Artefact":
    """The release as a host has it. Raises InventoryError when none does."""
    from roadbed.engine.errors import InventoryError
    from roadbed.releases.on_hosts import fetch

    releases, _ = look(hosts)
    found = next((one for one in releases if one.release == release), None)
    if found is None:
        there = ", ".join(one.release for one in releases) or "none"
        raise InventoryError(f"--release: neither this machine nor a host has {release}. The hosts have: {there}")
    fleet = hosts.fleet
    return fetch(fleet.session(found.hosts[0]), fleet.inventory.app, release)


def refuse_another_key(artefact: "Artefact", secrets: "Secrets") -> None:
    """Raises Refused for a release that was built with another action key: the actions of open pages would fail."""
    from roadbed.engine.errors import Refused
    from roadbed.engine.secrets import ACTION_KEY
    from roadbed.releases.action_key import fingerprint

    now = fingerprint(secrets.get(ACTION_KEY).encode())
    if artefact.manifest.key_fingerprint != now:
        raise Refused(
            f"{artefact.release} was built with another action key ({artefact.manifest.key_fingerprint}, the stack has "
            f"{now}), so the Server Actions of open pages would fail. Build it again: provision deploy --source"
        )
