"""The users of the app's database: their verifiers, and the operation that mends what somebody changed."""

import json
from collections.abc import Generator
from hashlib import sha256
from typing import TYPE_CHECKING

from pyinfra import context
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation

from .scram import verifier

if TYPE_CHECKING:
    from .context import Context

AS_POSTGRES = "runuser -u postgres -- psql -X -q -A -t -v ON_ERROR_STOP=1"
"""psql as the superuser over the socket; no file of anybody's is read."""
STATE = """SELECT json_object_agg(key, value) FROM (
  SELECT 'role ' || rolname AS key, encode(sha256(rolpassword::bytea), 'hex') AS value, rolname AS name
  FROM pg_authid WHERE rolcanlogin AND NOT rolsuper
  UNION ALL SELECT 'database ' || datname, pg_get_userbyid(datdba), datname FROM pg_database
) AS found WHERE name IN (NAMES)"""


def verifiers(ctx: "Context", name: str, owner: str) -> dict[str, str]:
    """User -> SCRAM verifier: of the app, which is called like its database, and of the owner."""
    return {
        name: verifier(name, ctx.secret("postgres_app_password")),
        owner: verifier(owner, ctx.secret("postgres_owner_password")),
    }


def expected_roles(ctx: "Context", name: str, owner: str) -> dict[str, str]:
    """What the fact ``RolesState`` says when nothing is to be done: no verifier, only its hash."""
    hashes = {role: sha256(text.encode()).hexdigest() for role, text in verifiers(ctx, name, owner).items()}
    return {**{f"role {role}": value for role, value in hashes.items()}, f"database {name}": owner}


class RolesState(FactBase[dict[str, str]]):
    """Users with the hash of their verifier, databases with their owner. Empty where no server answers."""

    def command(self, names: list[str]) -> str:
        listed = ", ".join(f"'{name}'" for name in names)
        query = STATE.replace("NAMES", listed)
        return f'if command -v psql >/dev/null; then {AS_POSTGRES} -c "{query}" 2>/dev/null || true; fi'

    default = dict

    def process(self, output: list[str]) -> dict[str, str]:
        found = json.loads("".join(output) or "null") or {}
        return {str(key): str(value) for key, value in found.items()}


@operation()
def mend_roles(file: str, expected: dict[str, str]) -> Generator[StringCommand, None, None]:
    """Runs the statements in ``file`` where somebody changed a password or an owner, or dropped what is needed."""
    names = [key.partition(" ")[2] for key in expected]
    if context.host.get_fact(RolesState, names=names) != expected:
        yield StringCommand(AS_POSTGRES, "<", QuoteString(file))
