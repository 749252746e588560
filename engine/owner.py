"""Who runs this command, for histories, locks and audit lines."""

import getpass
import os
import re
import socket


def owner() -> str:
    """``user@machine``. ROADBED_OWNER says something else, such as the name of a CI job; blanks become dashes."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, in a container, say
        user = str(os.getuid())
    name = os.environ.get("ROADBED_OWNER") or f"{user}@{socket.gethostname()}"
    return re.sub(r"[^A-Za-z0-9@._:/-]+", "-", name)[:80]
