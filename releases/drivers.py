"""Which npm package of a project speaks to PostgreSQL: the URL of the database needs parameters for it."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from roadbed.deploys.urls import Driver, chosen_driver
from roadbed.engine.errors import RoadbedError

from . import lock_file
from .manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from roadbed.engine.inventory import Inventory

    from .project import Project

CLIENT, ADAPTERS = "@prisma/client", "@prisma/adapter-"
NEON = ("@neondatabase/serverless", "@vercel/postgres", "@prisma/adapter-neon")
"""They speak to Neon's own proxy, over WebSockets or HTTP, and to nothing else."""


@dataclass(frozen=True)
class Detected:
    """The driver, None where none is known; ``note`` is what the user should be told about it, or empty."""

    driver: Driver | None
    note: str = ""


def detect_driver(project: "Project") -> Detected:
    """Looks at the project's own dependencies and, where they say nothing, at what those bring.

    drizzle-orm, kysely, knex and typeorm work with several drivers: the one beside them counts. Prisma
    speaks through pg once it has the driver adapter for it, which Prisma 7 always has
    (https://www.prisma.io/docs/orm/overview/databases/database-drivers). With several drivers the first of
    prisma, postgres, pg gets its parameters: it is the one that cannot do without them, and the others
    ignore them.
    """
    own = project.runtime
    if CLIENT in own or not _drivers(own):
        every = lock_file.production(project.root / project.lock, project.folder)
        own = own | ({name for name in every if name.startswith(ADAPTERS)} if CLIENT in own else every)
    found = _drivers(own)
    notes = []
    if len(found) > 1:
        notes.append(
            f"{', '.join(found)} speak to PostgreSQL: DATABASE_URL gets the parameters of {found[0]}. "
            "Another: app/database/driver"
        )
    if foreign := [name for name in NEON if name in own]:
        notes.append(f"{foreign[0]} speaks to Neon's proxy alone: it cannot use a database or PgBouncer of this stack")
    return Detected(found[0] if found else None, "; ".join(notes))


def _drivers(names: "AbstractSet[str]") -> list[Driver]:
    """Drivers among ``names``, in the order in which they win."""
    adapters = {name.removeprefix(ADAPTERS) for name in names if name.startswith(ADAPTERS)}
    prisma = CLIENT in names
    present = {
        "prisma": prisma and not adapters,
        "postgres": "postgres" in names,
        "pg": "pg" in names or (prisma and "pg" in adapters),
    }
    return [driver for driver in get_args(Driver) if present[driver]]


def driver_of(inventory: "Inventory") -> Detected:
    """The driver of a stack before anything is built: what the project or the release file at app.source has.

    None, with the reason, when the project is not here: a stack can be looked at without it.
    """
    from .checkout import known, read

    absent = Detected(None, f"{inventory.app.source} is not here or cannot be read")
    try:
        if (place := known(inventory)) is None:
            return absent
        if place.is_release:
            return Detected(_in_archive(place.path))
        return detect_driver(read(inventory, place, allow_vulnerable=True))
    except (RoadbedError, OSError, ValueError, tarfile.TarError):
        return absent


def _in_archive(file: Path) -> Driver | None:
    """What the manifest of a release file says."""
    with tarfile.open(file, "r:gz") as archive:
        for member in archive:
            if member.name == MANIFEST and (data := archive.extractfile(member)):
                return chosen_driver("auto", json.load(data).get("database_driver"))
    return None
