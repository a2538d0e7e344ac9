"""The picture of a probe: error rate over blocks, with intervals and MFCC as a line (figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 80, 24, 44
_TICKS = 5
_STYLE = (
    "text{font:12px sans-serif;fill:#333}.axis{stroke:#999}.grid{stroke:#ddd}"
    ".baseline{stroke:#c44;stroke-dasharray:5 4}.curve{fill:none;stroke:#269;stroke-width:2}"
    ".interval{stroke:#269}.point{fill:#269}"
)


@dataclass(frozen=True)
class Point:
    """Error rate of one block and its interval, percent."""

    name: str
    per: float
    low: float
    high: float


def draw(title: str, blocks: Sequence[Point], baseline: Point) -> str:
    """Draw error rates over blocks as a page of SVG that stands alone.

    Parameters
    ----------
    title : str
    blocks : sequence of Point
        From the input up; at least one.
    baseline : Point
        Drawn as a horizontal line.
    """
    top = max(1.0, *(point.high for point in [*blocks, baseline]))
    step = _tick_step(top)
    n_steps = int(-(-top // step))

    def y(per: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * per / (n_steps * step)

    def x(index: int) -> float:
        room = WIDTH - _LEFT - _RIGHT
        return _LEFT + room * (index + 0.5) / len(blocks)

    right = WIDTH - _RIGHT
    parts = []
    for tick in range(n_steps + 1):
        height = y(tick * step)
        parts += [
            _line("grid" if tick else "axis", _LEFT, height, right, height),
            _text(_LEFT - 6, height + 4, f"{tick * step:g}", "end"),
        ]
    parts += [
        _line("baseline", _LEFT, y(baseline.per), right, y(baseline.per)),
        _text(right + 6, y(baseline.per) + 4, f"{baseline.name} {baseline.per:.1f}"),
        f'<polyline class="curve" points="{_points(blocks, x, y)}"/>',
    ]
    for index, point in enumerate(blocks):
        centre = x(index)
        parts += [
            _line("interval", centre, y(point.low), centre, y(point.high)),
            f'<circle class="point" cx="{centre:.1f}" cy="{y(point.per):.1f}" r="3.5">'
            f"<title>{escape(point.name)}: {point.per:.1f} %</title></circle>",
            _text(centre, HEIGHT - _BOTTOM + 16, point.name, "middle"),
        ]
    parts += [
        _text((_LEFT + right) / 2, HEIGHT - 8, "block", "middle"),
        _text(_LEFT - 48, 14, "phone error rate, %"),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _tick_step(top: float) -> float:
    """Return a round distance of ticks that makes about `_TICKS` of them."""
    return next(step for step in (2.0, 5.0, 10.0, 20.0, 50.0, 100.0, top) if top / step <= _TICKS)


def _points(blocks: Sequence[Point], x: Callable[[int], float], y: Callable[[float], float]) -> str:
    return " ".join(f"{x(index):.1f},{y(point.per):.1f}" for index, point in enumerate(blocks))


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
