"""Versions of Next.js: the oldest one supported, and those that are known to be vulnerable."""

import re
from dataclasses import dataclass

Version = tuple[int, int, int]

OLDEST: Version = (14, 2, 0)
"""First version with every build option that a release needs (measured on 14.2.35, 15.5 and 16.4)."""

ADAPTERS: Version = (15, 4, 0)
"""First version that reads NEXT_ADAPTER_PATH; older ones are built with NEXT_PRIVATE_STANDALONE."""


@dataclass(frozen=True)
class Advisory:
    """A published weakness: ``fixed`` maps a line (major, or major and minor) to its first repaired version."""

    name: str
    summary: str
    since: Version
    fixed: tuple[Version, ...]

    def affects(self, version: Version) -> bool:
        """Whether ``version`` has the weakness: it is in a line without a repair, or below the repair."""
        if version < self.since:
            return False
        same_minor = [fix for fix in self.fixed if fix[:2] == version[:2]]
        if same_minor:
            return version < same_minor[0]
        same_major = [fix for fix in self.fixed if fix[0] == version[0]]
        return version < max(same_major) if same_major else version < max(self.fixed)


ADVISORIES = (
    # https://nextjs.org/blog/CVE-2025-66478
    Advisory(
        "CVE-2025-55182",
        "remote code execution in React Server Components",
        (15, 0, 0),
        ((15, 0, 5), (15, 1, 9), (15, 2, 6), (15, 3, 6), (15, 4, 8), (15, 5, 7), (16, 0, 7)),
    ),
    # https://github.com/advisories/GHSA-c4j6-fc7j-m34r; the line 14.2 never got a repair
    Advisory(
        "CVE-2026-44578",
        "a WebSocket upgrade reaches internal hosts of a self-hosted server",
        (13, 4, 13),
        ((15, 5, 16), (16, 2, 5)),
    ),
    # May 2026 release: vercel.com/changelog/next-js-may-2026-security-release
    Advisory(
        "CVE-2026-45109",
        "a crafted path passes middleware, and the checks in it, unseen",
        (15, 0, 0),
        ((15, 5, 18), (16, 2, 6)),
    ),
    # July 2026 release: nextjs.org/blog/july-2026-security-release, github.com/advisories/GHSA-m99w-x7hq-7vfj
    Advisory(
        "CVE-2026-64641",
        "one request to a Server Action can stall the server",
        (15, 0, 0),
        ((15, 5, 21), (16, 2, 11)),
    ),
    # August 2026 release: nextjs.org/blog/august-2026-security-release
    Advisory(
        "GHSA-2xp9-vwfh-vxw4",
        "remote code execution through AVIF images in the image optimizer",
        (15, 0, 0),
        ((15, 5, 24), (16, 3, 3)),
    ),
)


def parse(text: str) -> Version | None:
    """``16.4.6`` or ``16.4.6-canary.3`` as numbers; None for anything else (a range, a tag, a URL)."""
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)(?:[-+].*)?", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def advisory_for(version: Version) -> Advisory | None:
    """The gravest known weakness of a version, in the order of ``ADVISORIES``; None when none is known."""
    return next((advisory for advisory in ADVISORIES if advisory.affects(version)), None)


def repaired(version: Version) -> Version:
    """The lowest version, of the same major where there is one, that no listed advisory affects."""
    fixes = sorted({fix for advisory in ADVISORIES for fix in advisory.fixed})
    clean = [fix for fix in fixes if advisory_for(fix) is None and fix > version]
    return next((fix for fix in clean if fix[0] == version[0]), clean[0])
