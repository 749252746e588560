"""Warm: new instances are asked for the hot pages before they get visitors, so that the first of these do not wait."""

import shlex
from collections.abc import Iterable
from urllib.parse import quote

from roadbed.deploys.app import AppSettings
from roadbed.engine.session import Session

from .manifest import Manifest, Route

PATHS = 20
"""Most pages asked of an instance: these load what all pages share; the rest would only delay the rollout."""
SECONDS = 10
"""Longest time for all of them on a host. What is left by then stays cold."""
SAFE = "/:@!$&'()*+,;=-._~%"
"""Characters of a path that stay as they are in a URL (RFC 3986)."""


def hot_paths(manifest: Manifest) -> list[str]:
    """The pages that the build has made, as visitors ask for them: first one of each route, then more."""
    made = [_paths(manifest, route) for route in _by_kind(manifest.routes)]
    longest = max((len(paths) for paths in made), default=0)
    return [paths[place] for place in range(longest) for paths in made if place < len(paths)][:PATHS]


def warm(session: Session, app: AppSettings, address: str, ports: Iterable[int], paths: list[str]) -> str:
    """Asks each instance at ``address`` for ``paths``, past nginx, and says how it went. Raises nothing for them."""
    asked = [f"http://{_host(address)}:{port}{quote(path, safe=SAFE)}" for path in paths for port in ports]
    if not asked:
        return ""
    result = session.run(_command(app.domain, asked), timeout=SECONDS + 30, check=False)
    answers = [line.partition(" ") for line in result.out.splitlines()]
    slow = len(asked) - len(answers)
    bad = {f"{url} ({int(code) or 'no answer'})" for code, _, url in answers if not 200 <= int(code) < 500}
    text = f"warmed with {len(answers) - len(bad)} requests for {len(paths)} pages"
    text += f", {slow} were not made within {SECONDS} s" if slow else ""
    return text + (f"\nwarning: {len(bad)} failed, such as {min(bad)}" if bad else "")


def _command(domain: str, urls: list[str]) -> str:
    """curl, one request after the other on kept connections: several at once would take the CPU from visitors."""
    headers = {
        "Host": domain,
        "X-Forwarded-Host": domain,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "127.0.0.1",
        "User-Agent": "roadbed-warm",
    }
    lines = [f'header = "{name}: {value}"' for name, value in headers.items()]
    lines += [
        "silent",
        "globoff",
        'noproxy = "*"',
        f"max-time = {SECONDS}",
        'write-out = "%{http_code} %{url_effective}\\n"',
    ]
    for url in urls:
        lines += [f'url = "{url}"', 'output = "/dev/null"']
    return f"printf %s {shlex.quote(chr(10).join(lines))} | timeout {SECONDS} curl --disable --config -"


def _by_kind(routes: Iterable[Route]) -> list[Route]:
    return sorted(
        (route for route in routes if route.prerendered), key=lambda route: (route.kind != "page", route.path)
    )


def _paths(manifest: Manifest, route: Route) -> list[str]:
    base = manifest.base_path
    return [base if base and path == "/" else base + path for path in route.prerendered]


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
