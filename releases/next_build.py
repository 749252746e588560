"""Install the packages and run ``next build``, with what a self-hosted release needs."""

import os
import re
import shlex
from collections.abc import Mapping
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path, PurePath

from . import cache, old_versions, runtime_files, source, versions
from .build_env import build_environment
from .command import BuildFailed, BuildLog, run
from .job import Job
from .layout import BuildInfo, find_build, find_dist
from .project import Manager

PLAIN_BUILD = re.compile(r"next build((?: +--?[a-z-]+)*)")


def build(job: Job, release: str, hooks: AbstractContextManager[None]) -> BuildInfo:
    """Builds ``release`` in a fresh copy of the source, inside ``hooks`` once the packages are there.

    Raises BuildFailed with the end of the log.
    """
    log = BuildLog(job.work / "build.log")
    _install(job, log)
    with hooks:
        return _build(job, release, log)


def _build(job: Job, release: str, log: BuildLog) -> BuildInfo:
    handlers = runtime_files.cache_handlers(job.toolchain, environment(job, {}), log)
    runtime_files.copy_all(job.work / "runtime", handlers)
    _next_build(job, release, log)
    return finish(job, find_build(job.folder), handlers)


def finish(job: Job, info: BuildInfo, handlers: Path) -> BuildInfo:
    """What is done to a finished build wherever it was made: older versions get what they lack, and it is checked."""
    if job.version < versions.ADAPTERS:
        note = old_versions.add_cache_handler(info.dist / "standalone" / info.server, info.dist_name, handlers)
        if note:
            job.say(note)
    _check_key(info, job.key)
    _check_asset_prefix(info, job)
    return info


def prepare(job: Job) -> None:
    """Makes the copy of the source, with its packages, unless it is there: what commands of the project run in.

    Raises BuildFailed when the install fails or the project is no longer what the release was built from.
    """
    if job.copied.exists() and job.copied.read_text() == job.source_hash:
        return
    _install(job, BuildLog(job.work / "build.log"), "the new release was not started")


def _install(job: Job, log: BuildLog, outcome: str = "no host was touched") -> None:
    """A fresh copy of the source, and its packages as the lock file names them."""
    job.copied.unlink(missing_ok=True)
    source.copy(job.project.root, job.files, job.copy)
    if source.hash_of(job.copy, job.files, dict(job.depends)) != job.source_hash:
        raise BuildFailed("app/source: the project has changed during this run. Run the command again")
    _put_managers_on_path(job)
    _install_packages(job, log, outcome)
    job.copied.write_text(job.source_hash)


def install_words(manager: Manager, cached: str) -> tuple[list[str], str]:
    """Arguments for the package manager that install what the lock file names, and how the user knows the command.

    ``cached`` is where the manager keeps what it has downloaded.
    """
    if manager == "npm":
        title, options = "npm ci", ["--no-audit", "--no-fund", "--prefer-offline", "--cache", cached]
    else:
        title, options = "pnpm install --frozen-lockfile", ["--prefer-offline", "--store-dir", cached]
    return [*title.split()[1:], *options], title


def _install_packages(job: Job, log: BuildLog, outcome: str) -> None:
    words, title = install_words(job.project.manager, str(cache.cache_root() / "packages" / job.project.manager))
    job.say(f"Installing packages: {title}")
    command = [*job.manager, *words]
    run(command, folder=job.copy, env=environment(job, {}), log=log, title=title, outcome=outcome)


def build_variables(job: Job, release: str, runtime: str) -> dict[str, str]:
    """What ``next build`` gets beside the app's own settings; ``runtime`` is the folder of ``runtime_files.copy_all``.

    The action key is among them: for the build's environment, never for an argument.
    """
    ours = {
        "NEXT_SERVER_ACTIONS_ENCRYPTION_KEY": job.key.decode(),
        "ROADBED_RELEASE": release,
        "NODE_ENV": "production",
    }
    if job.asset_prefix:
        ours["ROADBED_ASSET_PREFIX"] = job.asset_prefix
    if job.version >= versions.ADAPTERS:
        return {**ours, "NEXT_ADAPTER_PATH": f"{runtime}/adapter.cjs"}
    # Undocumented, present in every version from 14.2 on.
    return {**ours, "NEXT_PRIVATE_STANDALONE": "1", "NEXT_DEPLOYMENT_ID": release}


def _next_build(job: Job, release: str, log: BuildLog) -> None:
    command, title = _build_command(job)
    job.say(f"Building with Next.js {job.project.next_version}: {title}")
    env = environment(job, build_variables(job, release, str(job.work / "runtime")))
    run(command, folder=job.folder, env=env, log=log, title=title)
    dist = find_dist(job.folder)
    if job.version < versions.ADAPTERS:
        old_versions.embed_key(dist, job.key)
    describe = [str(job.toolchain.node), str(job.work / "runtime/describe.cjs"), str(job.folder), str(dist)]
    run(describe, folder=job.folder, env=environment(job, {}), log=log, title="node describe.cjs")


def plain_flags(scripts: Mapping[str, str]) -> list[str] | None:
    """The flags of ``next build`` where the project's build script is that and no more; else None."""
    plain = PLAIN_BUILD.fullmatch(scripts.get("build", "next build").strip())
    return plain[1].split() if plain and not {"prebuild", "postbuild"} & scripts.keys() else None


def programs_of_next(folder: PurePath, project: PurePath) -> list[PurePath]:
    """Where Next.js may be: in the project's folder, or hoisted to one above it in a workspace."""
    return [place / "node_modules/next/dist/bin/next" for place in (folder, *folder.parents[: len(project.parts)])]


def _build_command(job: Job) -> tuple[list[str], str]:
    """``next build`` itself, or the project's build script when that does more."""
    flags = plain_flags(job.project.scripts)
    if flags is not None:
        found = programs_of_next(job.folder, job.project.folder)
        program = next((file for file in found if Path(file).exists()), found[0])
        return [str(job.toolchain.node), str(program), "build", *flags], " ".join(["next build", *flags])
    return [*job.manager, "run", "build"], f"{job.project.manager} run build"


def _put_managers_on_path(job: Job) -> None:
    """Scripts call npm, npx or pnpm by name, and the control machine need have none of them."""
    folder = job.work / "bin"
    folder.mkdir(exist_ok=True)
    for name, text in manager_scripts(job.project.manager, job.manager).items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def manager_scripts(manager: Manager, command: list[str]) -> dict[str, str]:
    """Programs for the PATH, by name; ``command`` is the beginning of the manager's argv."""
    programs: dict[str, list[str]] = {manager: command}
    if manager == "npm":
        programs["npx"] = [word.replace("npm-cli.js", "npx-cli.js") for word in command]
    return {name: f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n' for name, words in programs.items()}


def environment(job: Job, ours: Mapping[str, str]) -> dict[str, str]:
    """Environment of the project's own commands: the package manager and Node.js are on its PATH; ``ours`` wins."""
    path = [str(job.work / "bin"), str(job.toolchain.node.parent), *os.get_exec_path()]
    return build_environment(path, job.copy, job.env, ours)


def with_programs(job: Job, ours: Mapping[str, str]) -> dict[str, str]:
    """``environment``, with the programs on PATH that the project's packages brought."""
    env = environment(job, ours)
    programs = dict.fromkeys(str(folder / "node_modules/.bin") for folder in (job.folder, job.copy))
    return {**env, "PATH": os.pathsep.join([*programs, env["PATH"]])}


def _check_key(info: BuildInfo, key: bytes) -> None:
    """Next.js makes a key of its own when it does not see ours, and every later build then breaks open pages."""
    used = info.data["actionKeyFingerprint"]
    if used is not None and used != sha256(key).hexdigest():
        raise BuildFailed(
            "app/source: the build did not use the stack's action key. "
            "Remove NEXT_SERVER_ACTIONS_ENCRYPTION_KEY from the project's .env files and scripts"
        )


def _check_asset_prefix(info: BuildInfo, job: Job) -> None:
    """Before adapters nothing from outside can set it. A project's own wins, which newer builds say by themselves."""
    if job.asset_prefix and info.data["assetPrefix"] == info.data["basePath"]:
        raise BuildFailed(
            f"app/cdn/asset_prefix: Next.js {job.project.next_version} takes it from next.config alone. "
            f'Write assetPrefix: "{job.asset_prefix}" there, or upgrade to Next.js 15.4'
        )
