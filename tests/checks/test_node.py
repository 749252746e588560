"""Node: the pinned runtime is there, runs, and cannot be tampered with."""

from collections.abc import Callable

from testinfra.host import Host

from roadbed.deploys.context import Context
from roadbed.deploys.node import FOLDER, node_path

NEXT_NEEDS = (20, 9)
"""Lowest Node.js of Next.js 16: https://nextjs.org/docs/app/getting-started/installation"""


def _as_app(ctx: Context, arguments: str) -> str:
    name = ctx.inventory.app.name
    return f"cd / && setpriv --reuid={name} --regid={name} --clear-groups --no-new-privs {node_path(ctx)} {arguments}"


def test_runs_the_pinned_version(host: Host, ctx: Context) -> None:
    """Node.js runs as the app's user and is the version that the inventory means."""
    wanted = f"v{ctx.node[ctx.me.arch].version}"
    assert f"{host.check_output(_as_app(ctx, '--version'))}.".startswith(f"{wanted}.")


def test_is_new_enough_for_next(host: Host, ctx: Context) -> None:
    """The version is one that Next.js supports."""
    major, minor, _ = host.check_output(_as_app(ctx, "-p process.versions.node")).split(".")
    assert (int(major), int(minor)) >= NEXT_NEEDS


def test_belongs_to_root(host: Host, ctx: Context) -> None:
    """Nobody but root can change the binary or a folder above it."""
    path = f"$(readlink -f {node_path(ctx)})"
    loose = host.check_output(
        f"p={path}; while [ $p != / ]; do find $p -maxdepth 0 '(' -perm /022 -o ! -user root ')'; p=$(dirname $p); done"
    )
    assert loose == ""


def test_no_half_installed_version(host: Host) -> None:
    """No interrupted installation is left."""
    assert host.check_output(f"find {FOLDER} -maxdepth 1 -name '.partial-*'") == ""


def test_starts_quickly(host: Host, ctx: Context, measure: Callable[..., None]) -> None:
    """Node.js starts in well under a second."""
    timed = _as_app(ctx, "-e 0")
    spent = host.check_output(f"s=$(date +%s%N); {{ {timed}; }}; echo $(( ($(date +%s%N) - s) / 1000 ))")
    measure("start of node", int(spent) / 1000, "ms", 1000)


def test_heap_follows_the_option(host: Host, ctx: Context, measure: Callable[..., None]) -> None:
    """The heap limit that instances are started with is the one V8 uses."""
    heap = ctx.sizing().heap_mb
    limit = host.check_output(_as_app(ctx, f"--max-old-space-size={heap} -p 'v8.getHeapStatistics().heap_size_limit'"))
    measure("heap limit beyond the option", int(limit) / 2**20 - heap, "MiB", max(192, heap / 4))


def test_knows_all_languages(host: Host, ctx: Context) -> None:
    """Dates are formatted in other languages than English (full ICU)."""
    script = '-p \'new Intl.DateTimeFormat("de", {month: "long"}).format(new Date(0))\''
    assert host.check_output(_as_app(ctx, script)) == "Januar"


def test_makes_tls(host: Host, ctx: Context) -> None:
    """The built-in OpenSSL can speak TLS 1.3."""
    assert host.check_output(_as_app(ctx, "-p 'require(\"tls\").DEFAULT_MAX_VERSION'")) == "TLSv1.3"
