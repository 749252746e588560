"""The key of Server Actions: its form, and a fingerprint that tells keys apart without showing them."""

import base64
import binascii
import hmac
from hashlib import sha256

from roadbed.engine.errors import InventoryError

LENGTH = 32
"""Bytes: AES-256. Next.js also takes 16 and 24; a wrong length builds, and fails at the first action."""


def decode(key: bytes) -> bytes:
    """The 32 bytes of a key in base64. Raises InventoryError for anything else, without showing it."""
    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != LENGTH:
        raise InventoryError(
            f"action key: is not base64 of {LENGTH} bytes. Make one with: openssl rand -base64 {LENGTH}"
        )
    return raw


def fingerprint(key: bytes) -> str:
    """First 12 hex digits of HMAC-SHA256(key, "roadbed-action-key"): the key cannot be found from it."""
    return hmac.new(decode(key), b"roadbed-action-key", sha256).hexdigest()[:12]
