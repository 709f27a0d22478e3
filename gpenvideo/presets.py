"""Presets: the options that suit a material, by the names that the command line and gpenvideo.toml have.

    chosen = with_material("vhs", {"strength": 1.0})    # what vhs sets, and the strength that a person said

Each was chosen on clips of known truth, worn as its material is: see `benchmarks.materials`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gpenvideo.errors import OptionError

__all__ = ["MATERIALS", "Material", "material_of", "with_material"]

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Material:
    """A kind of film or tape."""

    name: str
    about: str
    """What it is like, and why its options are as they are."""

    options: Options
    """By their names on the command line, without the dashes."""

    def told(self, options: Options | None = None) -> str:
        """Its options, or some of them, in a line."""
        given = self.options if options is None else options
        return (
            f"{self.name}: {', '.join(_told(name, value) for name, value in given.items()) or 'as you say'}"
        )


def _told(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name} {value}"


def _material(name: str, about: str, **options: Any) -> Material:
    named = {option.replace("_", "-"): value for option, value in options.items()}
    return Material(name, about, MappingProxyType(named))


MATERIALS: Mapping[str, Material] = MappingProxyType(
    {
        material.name: material
        for material in (
            _material(
                "film-16mm",
                "Fine grain, a little dust: faces take on the grain around them, all of it.",
                grain="match",
            ),
            _material(
                "film-8mm",
                "Coarse grain, wear, soft pictures: all of such grain would hide what was restored.",
                grain="0.5",
                match_sharpness=True,
            ),
            _material(
                "vhs",
                "Tape noise is no grain: enough of it that faces belong. Fields are found by themselves.",
                grain="0.3",
                match_sharpness=True,
            ),
            _material(
                "dvd",
                "Soft and clean: the face is nearly good. Fields and film at 3:2 are found by themselves.",
                grain="none",
                strength=0.8,
            ),
            _material(
                "webcam",
                "Soft, noisy, compressed: the face is nearly good, and nobody wants its noise.",
                grain="none",
                strength=0.8,
            ),
        )
    }
)


def material_of(name: str) -> Material:
    """The material of a name.

    Raises:
        OptionError: there is none of that name.
    """
    if name in MATERIALS:
        return MATERIALS[name]
    near = difflib.get_close_matches(name, MATERIALS, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(MATERIALS)}"
    raise OptionError(f"there is no material {name!r}: {hint}")


def with_material(name: str | None, said: Options) -> dict[str, Any]:
    """The options of a material, and over them what a person said (None: nothing).

    Raises:
        OptionError: there is no material of that name.
    """
    options = {} if name is None else dict(material_of(name).options)
    return options | {option: value for option, value in said.items() if value is not None}
