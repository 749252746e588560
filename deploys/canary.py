"""Canary: the words by which nginx gives one slot a share of the visitors. Flag files switch it, as with a rollout."""

BUCKETS = 100
"""Visitors are divided into this many parts, so a share is a whole number of percent."""
COOKIE = "__Host-roadbed-share"
"""Its value is the number of a bucket: it says nothing else of a visitor, who may change it and only moves himself."""
COOKIE_SECONDS = 86400
"""A visitor stays in the bucket for a day: longer than a canary takes."""
SWITCH = "canary.on"
"""File in the folder ``app.route``. Without it nginx looks for no other flag of a share, and sets no cookie."""
VALUES = {"buckets": BUCKETS, "cookie": COOKIE, "seconds": COOKIE_SECONDS, "switch": SWITCH}


def bucket_flag(bucket: int, slot: str) -> str:
    """The file that sends the visitors of a bucket (0-99) to a slot."""
    return f"canary.{bucket}.{slot}"


def named_flag(release: str, slot: str) -> str:
    """The file that sends whoever names ``release`` to the slot it runs in: pages that are open in a browser."""
    return f"named.{release}.{slot}"


def public_link(slot: str) -> str:
    """The link in ``app.root`` to the public files of the release in a slot."""
    return f"public.{slot}"
