"""How `provision --help` looks."""

from typing import Any

from typer.core import TyperGroup


class WholeSentences(TyperGroup):
    """Commands with the whole first sentence of what they do, over two lines where one is too narrow."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the list of commands; click itself cuts each at the width of the terminal."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=1000)))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
