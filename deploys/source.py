"""Where the app comes from: what ``app.source`` may say."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

URL = re.compile(r"^(https?|ssh|git|file)://", re.IGNORECASE)
ANY_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:(//|:)")
SCP = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*:(?!//)[^\s#]+$")
"""``git@host:owner/repository.git``, the short form of ssh that git understands (gitrevisions, git-fetch: GIT URLS)."""
REF = re.compile(r"^(?!-)(?!.*(\.\.|//|@\{))[A-Za-z0-9._/+@-]{1,200}(?<![./])$")
"""Branch, tag or commit: of what git-check-ref-format(1) allows, the characters that people use."""
SHAPE = "Write it as https://host/owner/repository.git#v1.2, or #v1.2:apps/web for a folder in it"


@dataclass(frozen=True)
class GitSource:
    """A project in a git repository. ``ref`` is a branch, a tag or a commit; HEAD means the default branch.
    ``folder`` is the project's folder in it, empty for the whole repository."""

    url: str
    ref: str
    folder: str


def git_source(text: str) -> GitSource | None:
    """``URL#ref:folder`` in its parts; None for a path on this machine. Raises ValueError for a URL of another form."""
    url, mark, rest = text.partition("#")
    if not (URL.match(url) or SCP.match(url)):
        if ANY_URL.match(text):
            raise ValueError(f"'{text}' is no URL of a git repository. {SHAPE}")
        return None
    ref, _, folder = rest.partition(":")
    _check_url(url)
    if mark and not REF.match(ref):  # nothing there, say of an unset variable, does not mean the default branch
        raise ValueError(f"'{ref}' after # is not the name of a branch, a tag or a commit. {SHAPE}")
    if folder and ("\n" in folder or folder != str(PurePosixPath(folder)) or folder[0] in "/." or ".." in folder):
        raise ValueError(f"'{folder}' after : is not a folder of the repository. {SHAPE}")
    return GitSource(url, ref or "HEAD", folder)


def _check_url(url: str) -> None:
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError(f"'{url}' has a blank. {SHAPE}")
    if not URL.match(url):
        return
    try:
        parts = urlsplit(url)
        host, user = parts.hostname or "", parts.username
    except ValueError:
        raise ValueError(f"'{url}' is no URL of a git repository. {SHAPE}") from None
    if parts.password is not None or (user and parts.scheme.startswith("http")):
        raise ValueError(
            f"the URL of {host} has a password or a token in it, for everyone to read. Remove it: git asks your "
            "credential helper (git help gitcredentials)"
        )
    if parts.scheme == "file":
        complete = not host and len(parts.path) > 1
    else:
        complete = bool(re.match(r"[A-Za-z0-9]", host)) and len(parts.path) > 1 and not (user or "").startswith("-")
    if not complete:
        raise ValueError(f"'{url}' names no repository. {SHAPE}")
