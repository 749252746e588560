"""Releases over several hosts: the same one everywhere, one action key, files that every web host has."""

import re
from collections.abc import Callable

from testinfra.host import Host

from roadbed.checks.replicas import leads
from roadbed.deploys.context import Context

ROLES = ("app",)


def applies(ctx: Context) -> bool:
    """Once for the stack."""
    return leads(ctx) and bool(ctx.manifest)


def test_one_release_everywhere(ctx: Context, hosts: dict[str, Host]) -> None:
    """Every app host and every web host is at the same release."""
    root = ctx.inventory.app.root
    found = {
        name: hosts[name].check_output(f"readlink {root}/current") for name in ctx.inventory.with_role("app", "web")
    }
    assert len(set(found.values())) == 1, found


def test_one_action_key(ctx: Context, hosts: dict[str, Host]) -> None:
    """The releases kept on every app host were built with one key, so pages of each can call actions of each."""
    root, keys = ctx.inventory.app.root, set()
    for name in ctx.inventory.with_role("app"):
        files = hosts[name].check_output(f"grep -h key_fingerprint {root}/releases/*/.roadbed/manifest.json")
        keys |= set(re.findall(r'"key_fingerprint": *"([0-9a-f]+)"', files))
    assert keys == {ctx.manifest["key_fingerprint"]}


def test_static_files_on_every_web_host(ctx: Context, hosts: dict[str, Host], measure: Callable[..., None]) -> None:
    """Every hashed file that the release has is on the disk of every web host."""
    folder, root = ctx.manifest["files"], ctx.inventory.app.root
    static = f"app/{ctx.manifest['server']}/{ctx.manifest['dist']}/static/".replace("//", "/")
    wanted = sorted(path.removeprefix(static) for path in folder if path.startswith(static))
    assert wanted
    for name in ctx.inventory.with_role("web"):
        there = set(hosts[name].check_output(f"cd {root}/static && find . -type f -printf '%P\\n'").splitlines())
        measure(f"files missing on {name}", len([path for path in wanted if path not in there]), "", 0)
