"""Metrics: what the server counts, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from gpenvideo.live.session import Stats

__all__ = ["CONTENT_TYPE", "Counts", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}


class Counts(NamedTuple):
    """What the server knows beside its sessions."""

    visits: int
    ways: Counter[str]
    """Pages by how their pictures travel."""

    sent: int
    left_out: int
    """Pictures, to all pages since the start."""

    refused: Counter[str]
    """Requests and pages, by reason."""


def exposition(counts: Counts, sessions: Iterable[tuple[str, Stats]]) -> str:
    """The page that Prometheus asks for.

    Args:
        counts: of the server.
        sessions: a name, "camera" or "visitor-1", and how it does.
    """
    lines: list[str] = []

    def family(name: str, kind: str, text: str, values: Iterable[tuple[str, float]]) -> None:
        lines.append(f"# HELP gpenvideo_{name} {text}")
        lines.append(f"# TYPE gpenvideo_{name} {kind}")
        lines.extend(f"gpenvideo_{name}{labels} {value:.10g}" for labels, value in values)

    found = list(sessions)
    each = [(f'{{session="{name}"}}', stats) for name, stats in found]
    family("pages", "gauge", "Open pages.", [("", counts.visits)])
    ways = [(f'{{via="{via}"}}', counts.ways[via]) for via in ("webrtc", "vp8", "jpeg")]
    family("pages_watching", "gauge", "Pages by how their pictures travel.", ways)
    family("pictures_sent_total", "counter", "Pictures sent to pages.", [("", counts.sent)])
    family("pictures_left_out_total", "counter", "Pictures a slow page was spared.", [("", counts.left_out)])
    refused = [(f'{{reason="{reason}"}}', number) for reason, number in sorted(counts.refused.items())]
    family("refused_total", "counter", "Requests and pages refused.", refused)
    family("frames_total", "counter", "Frames restored.", [(label, s.frames) for label, s in each])
    family(
        "frames_dropped_total", "counter", "Frames dropped for newer ones.", [(x, s.dropped) for x, s in each]
    )
    family("frames_per_second", "gauge", "Of the last seconds.", [(label, s.fps) for label, s in each])
    family("faces", "gauge", "In the last frame.", [(label, s.faces) for label, s in each])
    family("steering_level", "gauge", "Steps down for the latency.", [(label, s.level) for label, s in each])
    quantiles = [
        (f'{{session="{name}",quantile="{QUANTILES[key]}"}}', stats.latency_ms[key] / 1e3)
        for name, stats in found
        for key in QUANTILES
        if key in stats.latency_ms
    ]
    family("latency_seconds", "gauge", "From capture until a frame is ready, of the last seconds.", quantiles)
    return "\n".join(lines) + "\n"
