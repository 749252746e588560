"""Visit the site of a machine as a browser does: by the machine's address, under the app's name."""

import re
import time
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx

DOMAIN = "shop.example.test"
SNI = {"sni_hostname": DOMAIN}


class Site(httpx.Client):
    """A client that connects to one machine and no other. The certificate of a rehearsal is self-signed."""

    def __init__(self, address: str, *, http2: bool = False, **options: Any) -> None:
        super().__init__(
            base_url=f"https://{address}",
            headers={"Host": DOMAIN},
            verify=False,
            http1=not http2,
            http2=http2,
            timeout=30,
            trust_env=False,
            **options,
        )

    def build_request(self, *words: Any, **options: Any) -> httpx.Request:
        """Every request asks for the app's certificate."""
        options["extensions"] = {**(options.get("extensions") or {}), **SNI}
        return super().build_request(*words, **options)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "input" and (name := found.get("name")):
            self.fields[name] = found.get("value") or ""


def fields(html: str) -> dict[str, str]:
    """Names and values of the inputs of a page that has one form."""
    parser = _Forms()
    parser.feed(html)
    return parser.fields


def mark(html: str, name: str) -> str:
    """The value of the attribute ``data-<name>`` of a page of the sample app."""
    found = re.search(rf'data-{name}="([^"]*)"', html)
    assert found, f"data-{name} is missing in {html[:2000]}"
    return found[1]


def scripts(html: str) -> list[str]:
    """The files of ``/_next/static`` that a page names."""
    return sorted(set(re.findall(r"/_next/static/[^\"'?\\\\ ]+", html)))


def submit(site: httpx.Client, path: str, inputs: dict[str, str]) -> httpx.Response:
    """Sends a form as a browser without JavaScript: multipart, with the page's origin."""
    parts = {name: (None, value) for name, value in inputs.items()}
    return site.post(path, files=parts, headers={"Origin": f"https://{DOMAIN}"})


@dataclass
class Arrivals:
    """A streamed answer: the text, and when (in seconds) each marker was first readable."""

    text: str = ""
    times: dict[str, float] = field(default_factory=dict)


def arrivals(site: httpx.Client, path: str, markers: list[str], **headers: str) -> Arrivals:
    """GETs a stream and notes the moment at which each marker had arrived."""
    began, seen = time.monotonic(), Arrivals()
    with site.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, answer.status_code
        for piece in answer.iter_text():
            seen.text += piece
            for marker in markers:
                if marker not in seen.times and marker in seen.text:
                    seen.times[marker] = time.monotonic() - began
    return seen
