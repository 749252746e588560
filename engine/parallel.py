"""Run one function for several hosts at once. Threads, which are greenlets once gevent has patched them."""

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from .errors import RoadbedError

Answer = TypeVar("Answer")


def each(names: Iterable[str], work: Callable[[str], Answer]) -> dict[str, Answer | RoadbedError]:
    """``work(name)`` for every name at the same time; waits for all of them.

    A RoadbedError of one name is its answer and does not disturb the others. Any other
    exception is a defect and is raised here, after all have ended.
    """
    names = list(names)
    answers: dict[str, Answer | RoadbedError] = {}
    defects: list[BaseException] = []

    def one(name: str) -> None:
        try:
            answers[name] = work(name)
        except RoadbedError as error:
            answers[name] = error
        except BaseException as error:
            defects.append(error)

    threads = [threading.Thread(target=one, args=(name,), daemon=True, name=name) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if defects:
        raise defects[0]
    return {name: answers[name] for name in names}
