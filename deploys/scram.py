"""SCRAM-SHA-256 verifiers of PostgreSQL, made here so that a plain password never reaches a server or its log."""

import base64
import hashlib
import hmac

ITERATIONS = 4096
"""PostgreSQL's own number (scram_iterations). The passwords are random, so more would slow logins alone."""


def verifier(user: str, password: str) -> str:
    """``SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>``, as pg_authid.rolpassword and PgBouncer's userlist hold it.

    The salt comes from the password and the user's name, so that the same password gives the same text on
    every run, and PostgreSQL and PgBouncer hold the same one: PgBouncer can log in to the server with what
    it learns from the client only then (https://www.pgbouncer.org/config.html, section auth_file).
    ``password`` must be plain ASCII, which SASLprep leaves as it is (RFC 5802). Raises ValueError otherwise.
    """
    if not password.isascii() or not password.isprintable():
        raise ValueError(f"the password of {user} has a character outside printable ASCII. Choose another")
    salt = hmac.digest(password.encode(), f"roadbed scram salt {user}".encode(), "sha256")[:16]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    words = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${ITERATIONS}:{words[0]}${words[1]}:{words[2]}"
