"""A real browser with one tab: Debian's Chromium, driven by Playwright, that finds the app's domain at one machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Page, Request, Response, sync_playwright

CHROMIUM = "/usr/bin/chromium"


@dataclass
class Tab:
    """An open page, and all that went wrong in it: errors of console and scripts, requests, answers above 399."""

    page: Page
    wrong: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """The URLs of the answers."""

    def mark(self) -> None:
        """Puts something into the window that a reload would lose."""
        self.page.evaluate("window.roadbedOpened = true")

    @property
    def same(self) -> bool:
        """Whether it is the window that was marked: no reload, no navigation that loads a document."""
        return bool(self.page.evaluate("window.roadbedOpened === true"))

    def watch(self) -> None:
        """Begins to note what goes wrong."""
        page = self.page
        page.on("console", lambda said: self.wrong.append(f"console: {said.text}") if said.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)

    def _failed(self, request: Request) -> None:
        """What the page itself cancels is no failure: Next.js does so with prefetches that it no longer needs."""
        if request.failure != "net::ERR_ABORTED":
            self.wrong.append(f"request: {request.url} {request.failure}")

    def _answered(self, answer: Response) -> None:
        self.asked.append(answer.url)
        if answer.status >= 400:
            self.wrong.append(f"HTTP {answer.status}: {answer.url}")


@contextmanager
def tab(address: str, domain: str) -> Iterator[Tab]:
    """A tab of a browser without a cache of before; the self-signed certificate of the machine is accepted."""
    arguments = [
        f"--host-resolver-rules=MAP {domain} {address}",
        "--no-sandbox",  # tests run as root
        "--disable-dev-shm-usage",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        context = browser.new_context(ignore_https_errors=True, base_url=f"https://{domain}")
        context.set_default_timeout(20_000)
        found = Tab(context.new_page())
        found.watch()
        yield found
        browser.close()
