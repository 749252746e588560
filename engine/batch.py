"""Many questions of one kind as one command: a process or two on the host for all of them.

A fact of pyinfra is a command of its own for every folder and two for every service, and so is ours for every
file. Each costs the host a shell and one to three processes, 2 to 9 ms. Here such commands are recognised by
their text and asked together, and the output is taken apart into what each would have printed. A text of any
other form is asked as it is, and so are all of a kind when the output does not fit them.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from .result import Result

Questions = list[re.Match[str]]
PATH, UNIT = r"[\w./@+-]+", r"[\w.@-]+\.[a-z]+"
"""Names that the shell takes as they are; others are not batched."""
OWNER = "%a %U %G"
STATUS = "user=%U group=%G mode=%A atime=%X mtime=%Y ctime=%Z size=%s %N"


@dataclass(frozen=True)
class Kind:
    """``command`` asks several questions at once; ``split`` has the answer to each, or None if they do not fit."""

    pattern: re.Pattern[str]
    command: Callable[[Questions], str]
    split: Callable[[Questions, str], list[str] | None]


def _those_that(condition: str, work: str) -> Callable[[Questions], str]:
    """y or n for each name, whether ``condition`` holds; then what ``work`` says of those for which it does."""

    def command(questions: Questions) -> str:
        names = " ".join(question["name"] for question in questions)
        loop = f'for f in {names}; do if {condition}; then set -- "$@" "$f"; echo y; else echo n; fi; done'
        return f"(set --; {loop}; [ $# = 0 ] || {{ {work}; }}) </dev/null"

    return command


def _split(lines_each: int, join: Callable[[list[str]], str]) -> Callable[[Questions, str], list[str] | None]:
    """The other direction: ``join`` makes the answer of one name of its lines; those that are not there have none."""

    def split(questions: Questions, said: str) -> list[str] | None:
        lines = said.splitlines()
        there, rest = [line == "y" for line in lines[: len(questions)]], lines[len(questions) :]
        count = sum(there)
        if len(there) != len(questions) or len(rest) != lines_each * count:
            return None
        answers = iter([join(rest[number::count]) for number in range(count)])
        return [next(answers) if here else "" for here in there]

    return split


def _show(questions: Questions) -> str:
    properties = dict.fromkeys(word for question in questions for word in _properties(question))
    wanted = "".join(f" --property {word}" for word in properties)
    names = " ".join(dict.fromkeys(question["name"] for question in questions))
    return f"systemctl show --all{wanted} {names} </dev/null"


def _split_show(questions: Questions, said: str) -> list[str] | None:
    units = list(dict.fromkeys(question["name"] for question in questions))
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in said.split("\n\n")]
    if len(blocks) != len(units):
        return None
    of = dict(zip(units, blocks, strict=True))
    if any(name not in of[question["name"]] for question in questions for name in _properties(question)):
        return None
    return [
        "".join(f"{name}={of[question['name']][name]}\n" for name in _properties(question)) for question in questions
    ]


def _properties(question: re.Match[str]) -> list[str]:
    return question["properties"].split()[1::2]


KINDS = {
    "FileState of deploys/files.py": Kind(
        re.compile(
            rf"if \[ -f (?P<name>{PATH}) \] && \[ ! -L (?P=name) \]; "
            rf"then stat -c '{OWNER}' (?P=name) && sha256sum < (?P=name) ; fi"
        ),
        _those_that('[ -f "$f" ] && [ ! -L "$f" ]', f'stat -c \'{OWNER}\' "$@" && sha256sum "$@"'),
        _split(2, lambda lines: f"{lines[0]}\n{lines[1].partition(' ')[0]}  -\n"),
    ),
    "File, Directory and Link of pyinfra.facts.files": Kind(
        re.compile(
            rf"! \(test -e (?P<name>{PATH}) \|\| test -L (?P=name) \) \|\| \( stat -c '{STATUS}' (?P=name) "
            r"2> /dev/null \|\| stat -f '[^']+' (?P=name) \|\| ls -ld (?P=name) \)"
        ),
        _those_that('[ -e "$f" ] || [ -L "$f" ]', f"stat -c '{STATUS}' \"$@\""),
        _split(1, lambda lines: f"{lines[0]}\n"),
    ),
    "UnitState of deploys/system.py, SystemdStatus and SystemdEnabled of pyinfra.facts.systemd": Kind(
        re.compile(
            r"if command -v systemctl >/dev/null 2>&1; then \( systemctl show --all"
            rf"(?P<properties>(?: --property \w+)+) (?P<name>{UNIT}) \); else echo '##PYINFRA_NOCMD##'; fi"
        ),
        _show,
        _split_show,
    ),
}


def answer_all(ask: Callable[[list[str]], list[Result]], texts: Iterable[str]) -> dict[str, Result]:
    """The result of each text, in one round trip; in two when a batch does not fit."""
    texts, groups = list(texts), _groups(texts)
    together = {text for group in groups.values() for text in group}
    single = [text for text in texts if text not in together]
    batches = [KINDS[kind].command(list(group.values())) for kind, group in groups.items()]
    results = ask([*batches, *single])
    known = dict(zip(single, results[len(batches) :], strict=True))
    for (kind, group), result in zip(groups.items(), results, strict=False):
        known |= _parts(KINDS[kind], group, result)
    if lacking := [text for text in texts if text not in known]:
        known |= dict(zip(lacking, ask(lacking), strict=True))
    return known


def _groups(texts: Iterable[str]) -> dict[str, dict[str, re.Match[str]]]:
    """The texts of each kind of which there are several."""
    groups: dict[str, dict[str, re.Match[str]]] = {}
    for text in texts:
        inner = _inner(text)
        for kind in KINDS:
            if question := KINDS[kind].pattern.fullmatch(inner):
                groups.setdefault(kind, {})[text] = question
    return {kind: group for kind, group in groups.items() if len(group) > 1}


def _inner(text: str) -> str:
    """What a question runs; their form is ``sh -c '...' </dev/null``, as connector.py writes it."""
    return text.removeprefix("sh -c '").removesuffix("' </dev/null").replace("'\"'\"'", "'")


def _parts(kind: Kind, group: dict[str, re.Match[str]], whole: Result) -> dict[str, Result]:
    answers = kind.split(list(group.values()), whole.out) if whole.ok and not whole.err else None
    if answers is None:
        return {}
    return {text: replace(whole, out=answer) for text, answer in zip(group, answers, strict=True)}
