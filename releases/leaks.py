"""Refuse a release that would show a secret to every visitor."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from roadbed.engine.errors import Refused

SHORTEST = 8
"""Characters. Shorter values, such as "true" or a port, occur in client code by chance."""


def check(tree: Path, public: Iterable[str], secrets: Mapping[str, str]) -> None:
    """Looks for the values of ``secrets`` (name -> value) in the ``public`` folders of ``tree``.

    Raises Refused naming the file and the secret, never its value. Next.js inlines every variable
    whose name begins with NEXT_PUBLIC_, and whatever a client component imports.
    """
    needles = {name: value.encode() for name, value in secrets.items() if len(value) >= SHORTEST}
    for folder in public:
        for file in sorted((tree / folder).rglob("*")):
            if not file.is_file():
                continue
            data = file.read_bytes()
            for name, needle in needles.items():
                if needle in data:
                    raise Refused(
                        f"app/source: the value of {name} is in {file.relative_to(tree)}, for every visitor to read. "
                        "Read it in server code only, and rename it if it begins with NEXT_PUBLIC_"
                    )
