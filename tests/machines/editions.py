"""Two editions of the sample app that take turns on a stack, and what its hosts keep of the other one."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .conftest import ROOT, Stack
from .visit import Site

ROUTE, KEPT = "/var/lib/roadbed/storefront/route", "/var/lib/roadbed/storefront/skew"
FRONT = "skew-2"
ACTION = """"use server";

import type { ActionState } from "@/components/action-form";
import { findProduct } from "@/lib/catalog";
import { release } from "@/lib/stamp";

export async function add(cart: string, from: string, _: ActionState, form: FormData): Promise<ActionState> {
  const product = findProduct(String(form.get("product")));
  if (!product) return { ok: false, message: "no such product" };
  return { ok: true, message: `${product.name} is in cart ${cart}; page from release ${from}, action on ${release()}` };
}
"""


class Editions:
    """The stack and the two releases; every test leaves one of them serving and the other one kept."""

    def __init__(self, stack: Stack, projects: tuple[Path, Path]) -> None:
        self.stack, self.projects, self.current = stack, projects, 0

    def run(self, host: str, command: str, **options: Any) -> str:
        return self.stack.ssh(host, command, **options).strip()

    def deploy(self, **app: Any) -> dict[str, Any]:
        """Rolls out the other edition."""
        self.current = 1 - self.current
        self.stack.write(app={"source": str(self.projects[self.current]), **app})
        return self.stack.converge()

    def release(self, host: str = FRONT) -> str:
        """The release that ``current`` leads to."""
        return self.run(host, "basename $(readlink /srv/storefront/current)")

    def kept(self, host: str) -> list[str]:
        """Slots whose instance 0 is kept on an app host."""
        return self.run(host, f"cd {KEPT} && ls").split()

    def flags(self, host: str) -> list[str]:
        """All flags on a web host."""
        return self.run(host, f"cd {ROUTE} && ls").split()

    def old(self, host: str) -> list[str]:
        """Those of them that lead to a kept release."""
        return [flag for flag in self.flags(host) if flag.startswith("old.")]

    def ask(self, named: str = "", host: str = FRONT, **options: Any) -> tuple[int, str]:
        """Status of a request as an open page makes it, and the release that answered."""
        with Site(self.stack.address(host)) as site:
            answer = site.get("/api/info", headers={"x-deployment-id": named} if named else {}, **options)
            return answer.status_code, answer.json()["release"] if answer.status_code == 200 else ""


def copies(folder: Path) -> tuple[Path, Path]:
    """The sample app twice. In the second edition the action and the chunk of the cart have other names."""
    first, second = folder / "first", folder / "second"
    for project in (first, second):
        ignored = shutil.ignore_patterns("node_modules", ".next")
        shutil.copytree(ROOT / "examples/storefront", project, ignore=ignored)
    guide, cart = second / "components/care-guide.tsx", second / "app/cart/page.tsx"
    guide.write_text(guide.read_text().replace("Wipe with", "Second edition: wipe with"))
    page = cart.read_text()
    start, end = page.index("  async function addToCart"), page.index("  return (\n    <main")
    page = page[:start] + page[end:].replace("{addToCart}", "{add.bind(null, cart, pageRelease)}")
    cart.write_text('import { add } from "./actions";\n' + page)
    cart.with_name("actions.ts").write_text(ACTION)
    return first, second


def changed(result: dict[str, Any]) -> list[str]:
    """Names of the operations that changed something."""
    return [item["name"] for item in result["operations"] if item["status"] == "changed"]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)
