"""`provision inventory` and `provision init`: look at inventories and write new ones."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Inventory

app = typer.Typer(no_args_is_help=True, help="Inventories: show, graph, schema.")


@app.command(epilog="Example:  provision inventory show -i prod")
def show(inventory: Inventory = None) -> None:
    """The inventory with every default filled in."""
    import yaml

    from roadbed.engine.load import load

    from .style import output

    output(yaml.safe_dump(load(inventory).model_dump(mode="json", by_alias=True), sort_keys=False).rstrip())


@app.command(epilog="Example:  provision inventory schema > inventory.schema.json")
def schema() -> None:
    """JSON Schema of the inventory, for editors."""
    import json

    from roadbed.engine.inventory import Inventory as Model

    from .style import output

    output(json.dumps(Model.model_json_schema(), indent=1))


@app.command(
    epilog="Examples:  provision inventory graph -i prod  |  provision inventory graph -i prod --svg > prod.svg"
)
def graph(
    inventory: Inventory = None,
    as_svg: Annotated[bool, typer.Option("--svg", help="As a picture, on standard output.")] = False,
) -> None:
    """The hosts, and who speaks to whom on which ports."""
    from roadbed.engine.load import load

    from .style import output
    from .topology import svg, text

    stack = load(inventory)
    output(svg(stack) if as_svg else text(stack))


def init(
    name: Annotated[str, typer.Argument(help="Name of the new inventory.")] = "prod",
    host: Annotated[list[str] | None, typer.Option(help="user@address of a machine; again for more.")] = None,
    domain: Annotated[str | None, typer.Option(help="Public host name.")] = None,
    source: Annotated[
        Path | None, typer.Option(help="Folder of the Next.js project. Default: this one.", show_default=False)
    ] = None,
    from_vagrant: Annotated[
        bool, typer.Option("--from-vagrant", help="The machines of the Vagrantfile here, which must run.")
    ] = False,
    from_terraform: Annotated[
        Path | None, typer.Option(help="The output `hosts` in a file: terraform output -json > FILE.")
    ] = None,
    rehearsal: Annotated[
        bool, typer.Option("--rehearsal", help="Write inventories/rehearsal.yml and a copy of the sample app.")
    ] = False,
) -> None:
    """Write an inventory into inventories/; on a terminal it asks for what is missing. Never overwrites one.

    Of several machines it proposes what each does: the first is the web host, the last holds the data.
    """
    from .init import Wanted, run

    run(name, Wanted(tuple(host or ()), domain, source, from_vagrant, from_terraform, rehearsal))
