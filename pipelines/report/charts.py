"""Histograms as inline SVG: colored by the page's style sheet, so that they follow light, dark and print."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup, escape

from reelmill.pipelines.report.thresholds import RuleFigure

WIDTH, HEIGHT = 360, 132
TOP, BOTTOM, SIDE = 18, 22, 6
PARTS = (("kept", "kept"), ("here", "fails this rule"), ("elsewhere", "rejected for something else"))


def histogram(figure: RuleFigure) -> Markup:
    """Stacked bars of kept, failed here and rejected elsewhere, with the rule's bounds as lines."""
    heights = np.array([figure.counts[part] for part, _ in PARTS])
    most = max(int(heights.sum(axis=0).max()), 1)
    bars = []
    count = heights.shape[1]
    step = (WIDTH - 2 * SIDE) / count
    for n in range(count):
        base = 0
        for (part, _), value in zip(PARTS, heights[:, n].tolist(), strict=True):
            if value:
                bars.append(_bar(part, SIDE + n * step, step, base, value, most))
                base += value
    lines = "".join(_bound(figure, side) for side in ("min", "max"))
    ticks = "".join(_tick(figure, place) for place in _ticks(figure))
    axis = f'<line class="axis" x1="{SIDE}" x2="{WIDTH - SIDE}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
    label = f"Histogram of {figure.rule.expr} over {figure.scored} samples"
    return Markup(  # noqa: S704  (every value in it is a number or escaped)
        f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(bars)}{axis}{ticks}{lines}</svg>"
    )


def number(value: float) -> str:
    """A value as people write it: 0.03, 5, 262,144."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _bar(part: str, x: float, step: float, base: int, value: int, most: int) -> str:
    scale = (HEIGHT - TOP - BOTTOM) / most
    height = max(value * scale, 1.0)
    y = HEIGHT - BOTTOM - base * scale - height
    return f'<rect class="{part}" x="{x:.1f}" y="{y:.1f}" width="{max(step - 1, 0.8):.1f}" height="{height:.1f}"/>'


def _bound(figure: RuleFigure, side: str) -> str:
    value = figure.rule.min if side == "min" else figure.rule.max
    if value is None:
        return ""
    x = SIDE + figure.position(value) * (WIDTH - 2 * SIDE)
    right = x > WIDTH / 2
    anchor, shift = ("end", -4) if right else ("start", 4)
    label = f"{'≥' if side == 'min' else '≤'} {number(value)}"
    return (
        f'<line class="bound" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{HEIGHT - BOTTOM}"/>'
        f'<line class="moved {side} home" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="bound" x="{x + shift:.1f}" y="12" text-anchor="{anchor}">{label}</text>'
    )


def _tick(figure: RuleFigure, value: float) -> str:
    x = SIDE + figure.position(value) * (WIDTH - 2 * SIDE)
    anchor = "start" if x < 24 else "end" if x > WIDTH - 24 else "middle"
    return f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{number(value)}</text>'


def _ticks(figure: RuleFigure) -> list[float]:
    """A handful of round numbers on the axis."""
    low, high = figure.edges[0], figure.edges[-1]
    if figure.log:
        return [10.0**n for n in range(int(np.ceil(np.log10(low))), int(np.floor(np.log10(high))) + 1)]
    rough = (high - low) / 4
    unit = 10.0 ** np.floor(np.log10(rough))
    step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    return [float(value) for value in np.arange(np.ceil(low / step) * step, high + step * 1e-9, step)]
