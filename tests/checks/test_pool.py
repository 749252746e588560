"""The pool under load: many requests at once that query the database, over few connections to PostgreSQL.

For the sample app, or one with a route of the same name.
"""

import shlex
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from testinfra.host import Host

from roadbed.checks.replicas import leads, routes
from roadbed.deploys.context import Context
from roadbed.deploys.pgbouncer import pools
from roadbed.deploys.postgres import database_name
from roadbed.deploys.postgres_roles import AS_POSTGRES
from roadbed.deploys.urls import pooled

ROLES = ("database",)
ROUTE = "/api/stock"
HOLD_MS = 20
"""How long a request keeps its connection busy."""
EACH = 250
"""Requests of one program; curl runs at most 300 at once."""
LONGEST_SECONDS = 30


def applies(ctx: Context) -> bool:
    """Once for the stack, where the app reaches a database of the stack through PgBouncer."""
    return pooled(ctx) and not ctx.inventory.postgres.external and leads(ctx, "database") and ROUTE in routes(ctx)


def _requests(ctx: Context, count: int) -> str:
    """Shell text that sends ``count`` requests at once to the nginx of this host, and prints the status of each."""
    domain = ctx.inventory.app.domain
    url = f"https://{domain}{ctx.manifest['base_path']}{ROUTE}?hold={HOLD_MS}"
    one = f'url = "{url}"\\noutput = "/dev/null"\\n'
    curl = f"curl -ksS --http1.1 --parallel --parallel-immediate --parallel-max {count} -m {LONGEST_SECONDS}"
    return (
        f"for i in $(seq {count}); do printf '{one}'; done | "
        f"{curl} --resolve {domain}:443:127.0.0.1 -w '%{{http_code}}\\n' -K -"
    )


def test_many_requests_few_connections(
    ctx: Context, host: Host, hosts: dict[str, Host], measure: Callable[..., None]
) -> None:
    """Many requests at once that query the database are answered, over no more connections than the pools have.

    How many: ``pgbouncer.verify_requests``, 500 unless set.
    """
    asked = ctx.inventory.pgbouncer.verify_requests
    web = next(name for name in ctx.inventory.with_role("web") if name in hosts)
    query = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{database_name(ctx)}'"  # noqa: S608  (a checked name)
    count = f'{AS_POSTGRES} -c "{query}"'
    seen = [0]
    with ThreadPoolExecutor(1) as pool:
        shares = [min(EACH, asked - begun) for begun in range(0, asked, EACH)]
        script = " & ".join(f"({_requests(ctx, share)})" for share in shares) + " & wait"
        answers = pool.submit(hosts[web].run, f"bash -c {shlex.quote(script)}")
        began = time.monotonic()
        while not answers.done():
            seen.append(int(host.check_output(count)))
        took = time.monotonic() - began
    codes = answers.result().stdout.split()
    measure("connections to PostgreSQL", max(seen), "", pools(ctx).pool_size * len(ctx.inventory.with_role("pooler")))
    measure("answered 200", codes.count("200"), "", asked, at_least=True)
    measure("all answered after", took, "s", LONGEST_SECONDS)
