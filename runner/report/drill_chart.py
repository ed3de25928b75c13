"""Charts of a drill as inline SVG: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from runner.spec.units import format_duration

WIDTH, LABELS, ROW = 920, 210, 20
COLOURS = {
    "provision": "#8d6e63",
    "fetch": "#5c9bd1",
    "restore": "#3f7cac",
    "replay": "#7e57c2",
    "verify": "#43a047",
    "serve": "#ef9a3c",
}
OTHER, LOST = "#90a4ae", "#c62828"


def gantt(timeline: Sequence[Mapping[str, Any]], objective: float | None) -> str:
    """Each step as a bar from its begin to its end, and the promised time as a red line.

    What was left out is a pale bar of the time it counts with, and puts off what comes after it.
    """
    rows = [one for one in timeline if one["seconds"] >= 0.001 or one["left_out"]]
    bars = [(one, *_extent(one)) for one in rows]
    longest = max([objective or 0.0, *(end for _, _, end in bars)], default=0.0) or 1.0
    height = ROW * len(bars) + 2 * ROW
    parts = [_svg(height, "The steps of the drill over time, against the RTO")]
    for place, (one, began, end) in enumerate(bars):
        y = ROW * place + 4
        colour = LOST if one["status"] == "failed" else COLOURS.get(one["phase"], OTHER)
        left, right = _x(began, longest), _x(end, longest)
        style = ' fill-opacity="0.35" stroke-dasharray="4 2"' if one["left_out"] else ""
        took = "unknown" if one["counted"] is None else format_duration(round(end - began, 2))
        parts.append(_label(one["step"], y))
        parts.append(
            f'<rect x="{left:.1f}" y="{y}" width="{max(1.5, right - left):.1f}" height="{ROW - 6}"'
            f' fill="{colour}" stroke="{colour}"{style}><title>{escape(one["title"])}: '
            f"{took}</title></rect>"
        )
    parts += _axis(longest, height)
    if objective is not None:
        parts.append(_promise(objective, longest, height))
    return "".join(parts) + "</svg>"


def levels(rows: Sequence[tuple[str, float | None, float | None]], what: str) -> str:
    """A bar for each (name, measured, objective), with its objective as a red mark."""
    longest = max((value for _, *two in rows for value in two if value), default=0.0) or 1.0
    height = ROW * len(rows) + 2 * ROW
    parts = [_svg(height, what)]
    for place, (name, measured, objective) in enumerate(rows):
        y = ROW * place + 4
        parts.append(_label(name, y))
        if measured is not None:
            late = objective is not None and measured > objective
            width = max(1.5, _x(measured, longest) - LABELS)
            parts.append(
                f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="{ROW - 6}" '
                f'fill="{LOST if late else COLOURS["restore"]}"><title>'
                f"{format_duration(round(measured, 2))}</title></rect>"
            )
        if objective is not None:
            x = _x(objective, longest)
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 3}" y2="{y + ROW - 3}" '
                f'stroke="{LOST}" stroke-width="2"/>'
            )
    return "".join([*parts, *_axis(longest, height)]) + "</svg>"


def legend() -> str:
    """What the colours mean."""
    words = "".join(
        f'<span><i style="background:{colour}"></i>{phase}</span>'
        for phase, colour in {**COLOURS, "other": OTHER, "failed": LOST}.items()
    )
    return f'<p class="legend">{words}<span>pale: left out, counted</span></p>'


def _extent(one: Mapping[str, Any]) -> tuple[float, float]:
    delay = one["delay"] or 0.0
    end = one["began"] + one["seconds"] + delay
    if one["left_out"]:
        return max(0.0, end - (one["counted"] or 0.0)), end
    return one["began"] + delay, end


def _x(seconds: float, longest: float) -> float:
    return LABELS + seconds / longest * (WIDTH - LABELS - 40)


def _svg(height: int, what: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="100%" role="img" '
        f'aria-label="{escape(what)}" font-family="sans-serif" font-size="11">'
    )


def _label(text: str, y: int) -> str:
    shown = text if len(text) <= 32 else f"{text[:31]}…"
    return f'<text x="{LABELS - 6}" y="{y + 11}" text-anchor="end">{escape(shown)}</text>'


def _axis(longest: float, height: int) -> Iterable[str]:
    for part in range(5):
        seconds = longest * part / 4
        x = _x(seconds, longest)
        yield (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - ROW - 8}" stroke="#ccc" '
            f'stroke-width="0.5"/><text x="{x:.1f}" y="{height - 12}" text-anchor="middle" '
            f'fill="#555">{format_duration(round(seconds, 1))}</text>'
        )


def _promise(objective: float, longest: float, height: int) -> str:
    x = _x(objective, longest)
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - ROW - 4}" stroke="{LOST}" '
        f'stroke-width="2"/><text x="{x - 4:.1f}" y="{height - ROW - 10}" text-anchor="end" '
        f'fill="{LOST}">RTO</text>'
    )
