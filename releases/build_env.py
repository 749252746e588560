"""The environment of a build: what a build may see, and nothing else of the control machine."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from roadbed.deploys.environment import AUTHORITIES

PASSED = (
    "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "LOGNAME",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
"""Reaching the registry and finding the user's npmrc. Anything more would make a build depend on its caller."""
AT_RUN_TIME = frozenset({"NODE_ENV", "NODE_OPTIONS"})
"""Settings of the app that are for its server alone: an install without devDependencies could not build."""


LOCAL = frozenset({"userconfig", "globalconfig", "prefix", "cache", "tmp", "cafile", "nodedir", "store_dir"})
"""Settings of npm that name places on this machine."""
FIXED = {
    "CI": "1",
    "NO_COLOR": "1",
    "NEXT_TELEMETRY_DISABLED": "1",
    "npm_config_update_notifier": "false",
    "npm_config_manage_package_manager_versions": "false",
    "npm_config_package_manager_strict": "false",
}


def build_environment(
    path: Sequence[str], project: Path, settings: Mapping[str, str], ours: Mapping[str, str]
) -> dict[str, str]:
    """Environment for install and build: ``settings`` are the app's own variables, ``ours`` win over them.

    Variables which the project's .npmrc names, ``${NPM_TOKEN}`` for example, are passed on too.
    """
    names = {*PASSED, *_named_in(project / ".npmrc")}
    env = {name: value for name, value in os.environ.items() if name in names or _for_npm(name)}
    return {**env, **FIXED, "PATH": os.pathsep.join(path), **settings, **ours}


def host_environment(
    path: Sequence[str], home: str, project: Path, settings: Mapping[str, str], ours: Mapping[str, str]
) -> dict[str, str]:
    """As ``build_environment``, for a build on a host, which has a home, proxies and authorities of its own."""
    names = set(_named_in(project / ".npmrc"))
    env = {
        name: value
        for name, value in os.environ.items()
        if name in names or (_for_npm(name) and name.lower().removeprefix("npm_config_") not in LOCAL)
    }
    own = {"HOME": home, "LANG": "C.UTF-8", "PATH": os.pathsep.join(path), "NODE_EXTRA_CA_CERTS": AUTHORITIES}
    return {**env, **FIXED, **own, **settings, **ours}


def npmrc() -> str | None:
    """The user's own npmrc, with the registries and logins in it; None where there is none."""
    try:
        named = next((value for name, value in os.environ.items() if name.lower() == "npm_config_userconfig"), None)
        return (Path(named) if named else Path.home() / ".npmrc").read_text() or None
    except (OSError, UnicodeDecodeError):
        return None


def _for_npm(name: str) -> bool:
    return name.lower().startswith("npm_config_")


def build_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """What of ``app/env`` a build sees, and so depends on: NEXT_PUBLIC_* and whatever else pages read."""
    return {name: value for name, value in settings.items() if name not in AT_RUN_TIME}


def _named_in(npmrc: Path) -> list[str]:
    try:
        return re.findall(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\??\}", npmrc.read_text())
    except OSError:
        return []
