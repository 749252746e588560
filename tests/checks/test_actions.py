"""Server Actions: a page of one instance, its action on another. For the sample app, or one with the same routes."""

from collections.abc import Callable
from html.parser import HTMLParser

from roadbed.checks.replicas import Replica, attribute, leads, routes
from roadbed.deploys.context import Context

ROLES = ("app",)
PAGE = "/cart"


def applies(ctx: Context) -> bool:
    """Once for the stack."""
    return leads(ctx) and PAGE in routes(ctx)


class _Inputs(HTMLParser):
    """Names and values of the inputs of a page that has one form."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "input" and (name := named.get("name")):
            self.found[name] = named.get("value") or ""


def test_action_on_another_instance(ctx: Context, replicas: list[Replica], measure: Callable[..., None]) -> None:
    """An action with encrypted closure variables works on every instance, whichever made the page."""
    page = replicas[0].get(PAGE).text
    cart, fields = attribute(page, "cart"), _Inputs(page).found
    origin = {"Origin": f"https://{ctx.inventory.app.domain}"}
    parts = {name: (None, value) for name, value in fields.items()}
    answers = [replica.client.post(PAGE, files=parts, headers=origin) for replica in replicas]
    good = [answer for answer in answers if answer.status_code == 200 and f"in cart {cart}" in _plain(answer.text)]
    measure("instances that took it", len(good), "", len(replicas), at_least=True)


def _plain(html: str) -> str:
    return html.replace("<!-- -->", "")
