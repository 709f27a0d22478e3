"""Messages: what a page may say, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpenvideo.errors import OptionError
from gpenvideo.live.session import Settings

__all__ = ["Watch", "changed", "parse", "settings_of", "watch_of"]

KINDS = ("watch", "pair", "settings", "clock", "report", "leave")
CHANGEABLE = ("strength", "weights", "temporal", "mirror", "enabled")


@dataclass(frozen=True, slots=True)
class Watch:
    """How a page wants to watch.

    Raises:
        OptionError: what is not there.
    """

    source: str
    """"camera", the server's, or "visitor", the page's own."""

    via: str
    """"webrtc", "vp8" or "jpeg"; the last two over the WebSocket."""

    pair: bool
    sdp: str = ""

    def __post_init__(self) -> None:
        if self.source not in ("camera", "visitor") or self.via not in ("webrtc", "vp8", "jpeg"):
            raise OptionError("a page watches the camera or its visitor, via webrtc, vp8 or jpeg")


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """A message's kind and what it says.

    OptionError: no JSON object, or of no kind that is known.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptionError("a message is JSON") from error
    if not isinstance(message, dict) or message.get("type") not in KINDS:
        raise OptionError(f"a message is an object whose type is one of {', '.join(KINDS)}")
    return str(message["type"]), message


def watch_of(message: Mapping[str, Any]) -> Watch:
    """How a page wants to watch; OptionError."""
    return Watch(
        source=typed(message, "source", str),
        via=typed(message, "via", str),
        pair=typed(message, "pair", bool),
        sdp=typed(message, "sdp", str, ""),
    )


def changed(settings: Settings, message: Mapping[str, Any]) -> Settings:
    """Settings with what a page changes: the strength, the network, smoothing, mirror, restoring at all.

    OptionError: a value that is none.
    """
    checks: dict[str, Callable[[Any], Any]] = dict.fromkeys(CHANGEABLE, _flag)
    checks |= {"strength": number, "weights": _name}
    return replace(settings, **{n: check(message[n]) for n, check in checks.items() if n in message})


def settings_of(settings: Settings, networks: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a page changes, as it is told them."""
    told = {name: getattr(settings, name) for name in CHANGEABLE}
    return told | {"weights": settings.weights or next(iter(networks))}


def number(value: Any) -> float:
    """A finite number; OptionError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise OptionError("a finite number is wanted here")
    try:
        return float(value)
    except OverflowError as error:  # whole numbers may have any size
        raise OptionError("a finite number is wanted here") from error


def typed(message: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """A member of a message; OptionError where it is missing or something else."""
    value = message.get(name, default)
    if not isinstance(value, kind):
        raise OptionError(f"{name} is missing, or is not what it has to be")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise OptionError("a setting that is on or off is true or false")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200:
        raise OptionError("a network is named")
    return value
