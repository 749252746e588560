"""The cache handlers with real Next.js and a real Redis on this computer: `runtime/tests/redis/*.redis.cjs`.

Two apps are built as releases are: the sample shop, and a plain JavaScript app of the Pages Router.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from roadbed.deploys.node import NodeSettings
from roadbed.engine.load import load
from roadbed.engine.secrets import ACTION_KEY, Secrets
from roadbed.releases import node_builds, runtime_files, toolchain
from roadbed.releases.artefact import Artefact
from roadbed.releases.build import ensure
from roadbed.releases.command import BuildLog

from .conftest import ROOT, _identity

RUNTIME = ROOT / "runtime"
LATE = "shared cache: no answer within"
"""What an instance complains of that has waited in vain for Redis."""
TESTS = sorted(path.name for path in (RUNTIME / "tests/redis").glob("*.redis.cjs"))
APPS = {"storefront": ROOT / "examples/storefront", "library": ROOT / "tests/machines/projects/classic"}


@pytest.fixture(scope="module")
def kit() -> toolchain.Toolchain:
    """The programs that releases are built with."""
    return toolchain.fetch(node_builds.resolve_all(NodeSettings(source="npm")))


@pytest.fixture(scope="module")
def environment(kit: toolchain.Toolchain, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the tests in JavaScript want to know: the handlers, the two apps, and Redis on the search path."""
    folder = tmp_path_factory.mktemp("cache")
    with tempfile.TemporaryDirectory() as home:
        handlers = runtime_files.cache_handlers(kit, {"PATH": os.defpath, "HOME": home}, BuildLog(folder / "log"))
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ROADBED_CACHE_HANDLERS": str(handlers),
        "ROADBED_STANDALONE": str(_standalone("storefront", kit, folder)),
        "ROADBED_CLASSIC": str(_standalone("library", kit, folder)),
    }


def _standalone(name: str, kit: toolchain.Toolchain, folder: Path) -> Path:
    """The folder with server.js as an instance has it: a release, and what it writes to."""
    release = _release(name, kit, folder)
    target = folder / name
    shutil.copytree(release.tree / "app", target, symlinks=True)
    shutil.copytree(release.tree / ".roadbed/seed/app", target, symlinks=True, dirs_exist_ok=True)
    return target / release.manifest.server


def _release(name: str, kit: toolchain.Toolchain, folder: Path) -> Artefact:
    file = folder / f"{name}.yml"
    app = {"name": name, "source": str(APPS[name]), "domain": "shop.example.test"}
    file.write_text(yaml.safe_dump({"app": app, "hosts": {"here": {"address": "127.0.0.1"}}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROADBED_IDENTITY", str(_identity()))
        key = Secrets(_identity().with_name("secrets.age")).get(ACTION_KEY)
    return ensure(load(str(file)), key.encode(), kit, lambda text: print(text, file=sys.stderr))


@pytest.mark.parametrize("file", TESTS)
def test_with_a_real_redis(file: str, kit: toolchain.Toolchain, environment: dict[str, str]) -> None:
    words = [str(kit.node), "--test", "--test-concurrency=1", f"tests/redis/{file}"]
    for _ in range(2):  # on a machine that stands still Redis is late, and instances rightly do without it
        done = subprocess.run(words, cwd=RUNTIME, env=environment, capture_output=True, text=True, timeout=600)
        if done.returncode == 0 or LATE not in done.stdout:
            break
    print("\n" + "\n".join(line for line in done.stdout.splitlines() if line.startswith("ℹ ")))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    counted = re.search(r"^\S+ pass (\d+)$", done.stdout, re.MULTILINE)
    assert counted
    assert int(counted[1]) > 0
