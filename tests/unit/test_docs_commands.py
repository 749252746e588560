"""Commands of the documentation: each parses, and each block is run here or says why it is not.

A fenced block of `sh` is run, in a folder of its own with an inventory, unless the line before it is a comment that
says why not: `<!-- not run: needs your servers -->`. Run can be what asks no host: `--help`, `init`, `inventory`,
`secrets` (NO_HOST in scripts/docs). Command lines of `provision` parse against the real command line, run or not, in
blocks, in `inline code` and in the files of docs/ci.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from roadbed.cli.main import app
from roadbed.cli.progress import Progress

from .test_docs_generated import DOCS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RECIPES = sorted((ROOT / "docs/ci").glob("*.yml"))
COMMAND: Any = typer.main.get_command(app)
SHELL = ("sh", "yaml", "")
"""Languages of blocks in which somebody could type `provision`."""
PROVISION = r"(?:^|[\s;&|(])(?:\.venv/bin/)?provision(?:\s|$)"
FENCE = re.compile(r"\s*(```+)\s*(\w*)\s*$")
MARK = re.compile(r"\s*<!-- not run: (.+) -->\s*$")
ENDS = re.compile(r"[;&|()]+|[0-9]?[<>]+&?")
"""What a shell ends a command with, or sends its output by."""
STACK = """\
app: {name: shop, source: ../shop, domain: shop.example.com, secrets: [OLD_TOKEN]}
hosts:
  web-1: {address: 192.0.2.1, roles: [web]}
  app-1: {address: 192.0.2.2, roles: [app]}
  app-2: {address: 192.0.2.3, roles: [app]}
  data-1: {address: 192.0.2.4, roles: [cache, pooler, database]}
"""


@dataclass(frozen=True)
class Block:
    """A fenced block. ``why`` is what the comment before it says."""

    page: Path
    line: int
    language: str
    why: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text().splitlines()
    begin, language, fence = 0, "", ""
    for number, line in enumerate(lines):
        found = FENCE.match(line)
        if found and not fence:
            begin, fence, language = number, found[1], found[2]
        elif found and found[1] == fence and not found[2]:
            mark = MARK.match(lines[begin - 1]) if begin else None
            text = "\n".join(lines[begin + 1 : number])
            yield Block(page, begin + 1, language, mark and mark[1], text)
            fence = ""
    assert not fence, f"{page}:{begin + 1}: a block without an end"


BLOCKS = [block for page in PAGES for block in blocks(page)]
SH = [block for block in BLOCKS if block.language == "sh"]


def statements(line: str) -> Iterator[list[str]]:
    """The commands of one line of a shell, as words; what redirects its output is a command that begins with > or <."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    for word in lexer:
        if word.startswith("#"):
            break
        if ENDS.fullmatch(word):
            yield words
            words = [word] if word[-1] in "<>" else []
        else:
            words.append(word)
    yield words


def provision_words(line: str) -> Iterator[list[str]]:
    """What follows `provision` wherever a line calls it."""
    if not re.search(PROVISION, line):
        return
    line = re.sub(r"^\s*(?:- )?(?:run: |script: )?", "", line.removeprefix("$ "))
    try:
        found = list(statements(line))
    except ValueError:
        return  # prose, or a piece of another language
    for words in found:
        while words and (
            re.fullmatch(r"[A-Z_]+=.*", words[0]) or words[0] in ("sudo", "time", "if", "do", "then", "!")
        ):
            words = words[1:]
        if words and words[0].removeprefix(".venv/bin/") == "provision":
            yield words[1:]


def logical_lines(text: str) -> list[str]:
    return re.sub(r"\\\n\s*", " ", text).splitlines()


def calls(lines: list[str]) -> list[str]:
    """Every call of `provision` in some lines, as one line."""
    return list(dict.fromkeys(shlex.join(words) for line in lines for words in provision_words(line)))


def in_text() -> list[str]:
    """The calls in `inline code`."""
    texts = [re.sub(r"^\s*```.*?^\s*```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL) for page in PAGES]
    codes = [code for text in texts for code in re.findall(r"`([^`\n]+)`", text)]
    return calls([code for code in codes if re.match(r"(\.venv/bin/)?provision( |$)", code)])


IN_TEXT = in_text()
IN_BLOCKS = calls([line for block in BLOCKS if block.language in SHELL for line in logical_lines(block.text)])
IN_RECIPES = calls([line for recipe in RECIPES for line in logical_lines(recipe.read_text())])
TYPED = list(dict.fromkeys([*IN_BLOCKS, *IN_RECIPES, *IN_TEXT]))


@pytest.fixture(autouse=True)
def loud() -> Iterator[None]:
    """--quiet counts for the whole process."""
    before = Progress.quiet
    yield
    Progress.quiet = before


def parse(words: list[str]) -> None:
    """Raises a usage error when the command or an option does not exist, or a value is none."""
    command, context = COMMAND, COMMAND.make_context("provision", ["--help"], resilient_parsing=True)
    own = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    if len(words) == 1 and words[0] in own:
        return
    while words and hasattr(command, "commands"):
        name, *words = words
        command = command.get_command(context, name)
        assert command is not None, f"No such command: {name}"
    if words and words != ["--help"]:
        command.make_context(command.name, list(words))


def test_calls_are_found() -> None:
    """In a block, in a line with others, behind another command, in a recipe."""
    assert {"check -i prod", "machines up", "--version"} <= set(TYPED)
    found = [words for line in ("vagrant up && provision phase3 -i v > x  # note", "A=b provision ssh -- sh -c 'a | b'")
             for words in provision_words(line)]  # fmt: skip
    assert found == [["phase3", "-i", "v"], ["ssh", "--", "sh", "-c", "a | b"]]
    assert any(
        words[:1] == ["verify"] for line in RECIPES[0].read_text().splitlines() for words in provision_words(line)
    )


@pytest.mark.parametrize("line", TYPED)
def test_call_parses(line: str) -> None:
    """The command and its options exist; it is not run. `verify --junit` in a text speaks of the option by itself."""
    words = shlex.split(line)
    try:
        parse(words)
    except Exception as error:
        if "requires an argument" not in str(error) or line not in IN_TEXT:
            raise


@pytest.mark.parametrize("line", ["phase9", "deploy --canery 5", "logs --lines many", "machines fly app-1"])
def test_a_call_that_is_wrong_is_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"No such|not a valid"):
        parse(shlex.split(line))


@pytest.mark.parametrize("block", SH, ids=str)
def test_block_is_run_or_says_why_not(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.why is not None:
        assert len(block.why) > 3
        return
    wanted = []
    for line in logical_lines(block.text):
        found = [words for words in statements(line) if words]
        for words in found:
            fit = words[0] == ">" or (words[0] == "provision" and needs_no_host(words[1:]))
            assert fit, f"{block}: `{line}` cannot be run here. Say why before it: <!-- not run: ... -->"
        wanted += [(found[0], found[1][1] if len(found) > 1 else None)] if found else []
    assert wanted
    folder = tmp_path / "work"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ROADBED_IDENTITY", str(tmp_path / "identity.age"))
    (tmp_path / "my-app").mkdir()
    folder.mkdir()
    monkeypatch.chdir(folder)
    furnish(folder, [words for words, _ in wanted])
    for words, target in wanted:
        result = CliRunner().invoke(app, words[1:], input="a value\n")
        assert result.exit_code == 0, f"{block}: {shlex.join(words)}: {result.exception} {result.output}"
        if target:
            (folder / target).write_text(result.stdout)


def needs_no_host(words: list[str]) -> bool:
    """Whether a command can be run by a test."""
    line = " ".join(words)
    return "--help" in words or line == "--version" or line.startswith(DOCS.NO_HOST)


def furnish(folder: Path, wanted: list[list[str]]) -> None:
    """The folder of a stack `prod`, and of the rehearsal, without what these calls write themselves."""
    (folder / "inventories").mkdir()
    (folder / "shop").mkdir()
    (folder / "package.json").write_text('{"dependencies": {"next": "16.0.0"}}')
    (folder / "inventories/prod.yml").write_text(STACK)
    shutil.copy(ROOT / "inventories/rehearsal.yml", folder / "inventories")
    if any(words[1:3] == ["secrets", "remove"] for words in wanted):
        CliRunner().invoke(app, ["secrets", "set", "OLD_TOKEN", "-i", "prod"], input="old\n")
    for words in wanted:
        if words[1] == "init":
            names = [word for word in words[2:3] if not word.startswith("-")]
            (folder / f"inventories/{names[0] if names else 'prod'}.yml").unlink(missing_ok=True)
            (folder / "inventories/rehearsal.yml").unlink(missing_ok=True)


def test_some_blocks_are_run() -> None:
    assert len([block for block in SH if block.why is None]) >= 8


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipe_is_yaml(recipe: Path) -> None:
    assert isinstance(yaml.safe_load(recipe.read_text()), dict)
