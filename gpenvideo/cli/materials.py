"""`--material`, and `gpenvideo materials`, which says what each of them is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gpenvideo.cli.console import Json, err, out, print_json
from gpenvideo.presets import MATERIALS, material_of

__all__ = ["Material", "MaterialDefaults", "materials", "tell_material"]

NAMES = ", ".join(MATERIALS)


def _as_defaults(ctx: typer.Context, name: str | None) -> str | None:
    """A material's options become the defaults of all that is not said."""
    if name is not None:
        options = material_of(name).options
        ctx.default_map = {option.replace("-", "_"): value for option, value in options.items()}
    return name


HELP = f"Sets options for {NAMES}; see `materials`."
Material = Annotated[str | None, typer.Option(help=HELP)]
MaterialDefaults = Annotated[str | None, typer.Option(callback=_as_defaults, is_eager=True, help=HELP)]


def tell_material(ctx: typer.Context, name: str | None) -> None:
    """Say which options a material sets, those left out that a person set otherwise."""
    if name is None:
        return
    material = material_of(name)
    kept = {option: value for option, value in material.options.items() if not _is_said(ctx, option)}
    err.print(material.told(kept), markup=False, highlight=False)


def _is_said(ctx: typer.Context, option: str) -> bool:
    source = ctx.get_parameter_source(option.replace("-", "_"))
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")


def materials(as_json: Json = False) -> None:
    """The materials that `--material` knows, and the options that each sets; what is said beside it wins."""
    from rich.table import Table

    if as_json:
        for name, material in MATERIALS.items():
            facts: dict[str, Any] = {"name": name, "about": material.about, "options": dict(material.options)}
            print_json(facts)
        return
    table = Table("material", "what it sets", "for")
    for material in MATERIALS.values():
        _, _, options = material.told().partition(": ")
        table.add_row(material.name, options, material.about)
    out.print(table)
