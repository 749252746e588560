"""Make a process ready for pyinfra: threads become greenlets, and nothing is loaded or searched without need.

A run that changes nothing takes about a second, and half of it was the libraries getting ready. What is
left out here, each with where it comes from:

- gevent asks every installed package 25 times whether it has a plugin for its patching (gevent/events.py);
- paramiko imports invoke for one word of ssh_config(5), which Roadbed does not read; it does without when
  invoke is missing (paramiko/config.py);
- typeguard, which pyinfra checks arguments with, imports unittest.mock, and so asyncio, for one class (_checkers.py);
- pyinfra evaluates the types of its global arguments anew for every class of facts, every operation and every
  fact (pyinfra/api/arguments.py);
- Python looks for garbage again and again among the hundred thousand objects that a program consists of.
"""

import functools
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType


def start() -> None:
    """Patches the standard library and imports pyinfra. Call it before anything else imports pyinfra or paramiko.

    Garbage stays until ``ready``, which is called when all is loaded.
    """
    gc.disable()
    _patch()
    mock = ModuleType("unittest.mock")
    mock.__getattr__ = lambda name: type(name, (), {})  # type: ignore[method-assign]
    with _in_place_of("invoke", None), _in_place_of("unittest.mock", mock):
        import paramiko  # noqa: F401
        from pyinfra.api import arguments, facts
    arguments.all_global_arguments = functools.cache(arguments.all_global_arguments)
    facts.all_global_arguments = arguments.all_global_arguments  # type: ignore[attr-defined]


def ready() -> None:
    """Garbage is collected from now on, and not looked for among what is loaded."""
    gc.freeze()
    gc.enable()


def _patch() -> None:
    from gevent import monkey
    from gevent.hub import Hub

    installed = metadata.entry_points
    metadata.entry_points = lambda **_: metadata.EntryPoints()  # type: ignore[assignment]
    try:
        monkey.patch_all()
    finally:
        metadata.entry_points = installed
    Hub.NOT_ERROR = (*Hub.NOT_ERROR, KeyboardInterrupt)  # Ctrl-C ends with one line, see cli/main.py


@contextmanager
def _in_place_of(name: str, module: ModuleType | None) -> Iterator[None]:
    """``import name`` gives ``module`` inside the block, or fails for None; a module that is loaded stays."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
