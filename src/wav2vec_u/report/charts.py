"""Charts as inline SVG: lines, bars, a heat map, a timeline.

Colours come from the page's CSS variables, so that the charts follow the dark mode. Every chart is
described in words in its ``title``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from wav2vec_u.report.markup import Markup, element

WIDTH, HEIGHT = 640, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 8, 8, 26
_MAX_POINTS = 400  # on one line; more cannot be seen and would swell the page

Series = tuple[str, Sequence[tuple[float, float]]]


def line_chart(title: str, series: Sequence[Series], x_label: str = "") -> Markup:
    """Draw lines over a common axis.

    Parameters
    ----------
    title : str
    series : sequence of (name, points)
        Points that are not finite are left out.
    x_label : str
    """
    kept = [
        (name, _thin([point for point in points if all(map(math.isfinite, point))]))
        for name, points in series
    ]
    everything = [point for _, points in kept for point in points]
    if not everything:
        return element("p", f"{title}: no points", class_="missing")
    x_axis = _Axis([point[0] for point in everything], _LEFT, WIDTH - _RIGHT)
    y_axis = _Axis([point[1] for point in everything], HEIGHT - _BOTTOM, _TOP)
    lines = []
    for index, (name, points) in enumerate(kept):
        where = " ".join(f"{x_axis.place(x):.1f},{y_axis.place(y):.1f}" for x, y in points)
        lines.append(
            element(
                "polyline",
                element("title", name),
                points=where,
                fill="none",
                style=f"stroke:var(--c{index % 6})",
                stroke_width="1.5",
            )
        )
    frame = [
        _text(_LEFT - 4, y_axis.place(value) + 4, _short(value), "end")
        for value in (y_axis.low, y_axis.high)
    ] + [
        _text(_LEFT, HEIGHT - 8, _short(x_axis.low), "start"),
        _text(WIDTH - _RIGHT, HEIGHT - 8, _short(x_axis.high), "end"),
        _text((WIDTH + _LEFT) / 2, HEIGHT - 8, x_label, "middle"),
        _rule(_LEFT, HEIGHT - _BOTTOM, WIDTH - _RIGHT, HEIGHT - _BOTTOM),
        _rule(_LEFT, _TOP, _LEFT, HEIGHT - _BOTTOM),
    ]
    legend = [
        element("span", name, class_="key", style=f"border-color:var(--c{index % 6})")
        for index, (name, _) in enumerate(kept)
        if len(kept) > 1
    ]
    return element(
        "figure",
        element("figcaption", title, *[element("span", legend)] if legend else []),
        _svg(title, frame + lines, WIDTH, HEIGHT),
    )


def bar_chart(title: str, bars: Sequence[tuple[str, float]], unit: str = "") -> Markup:
    """Draw horizontal bars with their names and values."""
    if not bars:
        return element("p", f"{title}: nothing to show", class_="missing")
    step, name_width = 22, 200
    longest = max((value for _, value in bars if math.isfinite(value)), default=0.0)
    room = WIDTH - name_width - 90
    parts = []
    for index, (name, value) in enumerate(bars):
        share = value / longest if longest > 0 and math.isfinite(value) else 0.0
        y = index * step
        parts += [
            _text(name_width - 6, y + 15, name if len(name) <= 30 else name[:29] + "…", "end"),
            element(
                "rect",
                element("title", name),
                x=name_width,
                y=y + 4,
                width=f"{max(1.0, share * room):.1f}",
                height=step - 8,
                style="fill:var(--c0)",
            ),
            _text(
                name_width + max(1.0, share * room) + 6, y + 15, f"{_short(value)} {unit}".strip()
            ),
        ]
    caption = element("figcaption", title)
    return element("figure", caption, _svg(title, parts, WIDTH, step * len(bars) + 4))


def heat_map(
    title: str, rows: Sequence[str], columns: Sequence[str], shares: Sequence[Sequence[float]]
) -> Markup:
    """Draw a table of shares (0 to 1) as shades.

    Parameters
    ----------
    title : str
    rows, columns : sequence of str
        Names.
    shares : sequence of rows
        One value for each row and column.
    """
    if not rows or not columns:
        return element("p", f"{title}: nothing to show", class_="missing")
    cell, margin = 15, 44
    parts = []
    for column, name in enumerate(columns):
        parts.append(_text(margin + column * cell + cell / 2, margin - 6, name, "middle"))
    for row, name in enumerate(rows):
        y = margin + row * cell
        parts.append(_text(margin - 5, y + cell - 4, name, "end"))
        for column, share in enumerate(shares[row]):
            if share < 0.005:  # an empty cell needs no mark
                continue
            parts.append(
                element(
                    "rect",
                    element("title", f"{name} → {columns[column]}: {100 * share:.1f} %"),
                    x=margin + column * cell,
                    y=y,
                    width=cell - 1,
                    height=cell - 1,
                    style="fill:var(--c0)",
                    fill_opacity=f"{min(1.0, share):.2f}",
                )
            )
    width, height = margin + cell * len(columns), margin + cell * len(rows)
    return element(
        "figure",
        element("figcaption", title),
        element("div", _svg(title, parts, width, height, fixed=True), class_="wide"),
    )


def timeline(title: str, spans: Sequence[tuple[str, float, float]], start_s: float) -> Markup:
    """Draw labelled spans along time, 90 pixels a second.

    Parameters
    ----------
    title : str
    spans : sequence of (label, start in seconds, end in seconds)
    start_s : float
        Where the picture begins.
    """
    if not spans:
        return element("p", f"{title}: no phones were recognised", class_="missing")
    per_second = 90
    seconds = max(end for _, _, end in spans) - start_s
    parts = []
    for index, (label, start, end) in enumerate(spans):
        x = (start - start_s) * per_second
        width = max(2.0, (end - start) * per_second - 1)
        parts.append(
            element(
                "rect",
                element("title", f"{label}, {start:.2f}–{end:.2f} s"),
                x=f"{x:.1f}",
                y=16,
                width=f"{width:.1f}",
                height=14,
                style=f"fill:var(--c{index % 2})",
                fill_opacity="0.6",
            )
        )
        parts.append(_text(x + width / 2, 12, label, "middle"))
    for second in range(math.ceil(seconds) + 1):
        x = float(second * per_second)
        parts.append(_rule(x, 32, x, 38))
        parts.append(_text(x + 2, 48, f"{start_s + second:.0f} s"))
    width = int(seconds * per_second) + 40
    return element(
        "figure",
        element("figcaption", title),
        element("div", _svg(title, parts, width, 52, fixed=True), class_="wide"),
    )


class _Axis:
    """Maps values onto pixels."""

    def __init__(self, values: Sequence[float], first: float, last: float) -> None:
        self.low, self.high = min(values), max(values)
        self._first, self._last = first, last

    def place(self, value: float) -> float:
        """Pixel of a value; the middle where all values are one."""
        if self.high == self.low:
            return (self._first + self._last) / 2
        share = (value - self.low) / (self.high - self.low)
        return self._first + share * (self._last - self._first)


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    step = math.ceil(len(points) / _MAX_POINTS) or 1
    thinned = list(points[::step])
    if points and thinned[-1] != points[-1]:
        thinned.append(points[-1])
    return thinned


def _svg(
    title: str, parts: Sequence[Markup], width: int, height: int, *, fixed: bool = False
) -> Markup:
    return element(
        "svg",
        element("title", title),
        parts,
        viewBox=f"0 0 {width} {height}",
        width=width if fixed else None,
        height=height if fixed else None,
        role="img",
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _rule(x1: float, y1: float, x2: float, y2: float) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="rule")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
