"""Pictures of results as SVG that needs no script and reads in light and dark."""

from collections.abc import Sequence
from html import escape

WIDTH, ROW, LEFT, RIGHT = 720, 30, 190, 60  # px
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #59636e }
.ours { fill: #12715b } .ours-line { stroke: #12715b }
.other { fill: #7d8590 } .other-line { stroke: #7d8590 }
.reference-line { stroke: #d55e00 } .reference { fill: #d55e00 }
.axis { stroke: #7d8590; stroke-width: 1 }
</style>"""


def svg(height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n{STYLE}\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def race(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """A dot for each method's mean in percent and a line from its lowest to its highest draw."""
    per_percent = (WIDTH - LEFT - RIGHT) / 100
    parts = []
    for number, (label, mean, low, high) in enumerate(rows):
        y = ROW * (number + 1)
        kind = {"auto": "ours", "LoraHub": "reference"}.get(label, "other")
        x, x_low, x_high = (LEFT + per_percent * value for value in (mean, low, high))
        parts += [
            f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(label)}</text>',
            f'<line class="{kind}-line" x1="{x_low:.1f}" y1="{y}" x2="{x_high:.1f}" y2="{y}" '
            'stroke-width="3"/>',
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="6"/>',
            f'<text x="{max(x, x_high) + 12:.1f}" y="{y + 4}">{mean:.1f}</text>',
        ]
    bottom = ROW * (len(rows) + 1)
    parts.append(f'<line class="axis" x1="{LEFT}" y1="10" x2="{LEFT}" y2="{bottom - 10}"/>')
    parts.append(
        f'<text x="12" y="{bottom + 8}">Held-out exact match in percent, mean over the 16 composable tasks; '
        "the line goes from the lowest to the highest draw.</text>"
    )
    return svg(bottom + 20, parts, "Held-out exact match of every method on the composable tasks")


def curve(points: Sequence[tuple[float, float]], reference_s: float) -> str:
    """Exact match in percent against seconds, and where the published loop would end."""
    height, top, bottom = 320, 20, 280
    longest = max([seconds for seconds, _ in points] + [reference_s]) * 1.05

    def x(seconds: float) -> float:
        return 60 + (WIDTH - 60 - RIGHT) * seconds / longest

    def y(percent: float) -> float:
        return bottom - (bottom - top) * percent / 100

    line = " ".join(f"{x(seconds):.1f},{y(percent):.1f}" for seconds, percent in points)
    parts = [
        f'<line class="axis" x1="60" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}"/>',
        *(
            f'<text x="52" y="{y(percent) + 4:.1f}" text-anchor="end">{percent}</text>'
            for percent in (0, 25, 50, 75, 100)
        ),
        f'<polyline class="ours-line" points="{line}" fill="none" stroke-width="2"/>',
        *(
            f'<circle class="ours" cx="{x(seconds):.1f}" cy="{y(percent):.1f}" r="4"/>'
            for seconds, percent in points
        ),
        f'<line class="reference-line" x1="{x(reference_s):.1f}" y1="{top}" x2="{x(reference_s):.1f}" '
        f'y2="{bottom}" stroke-width="2" stroke-dasharray="4 4"/>',
        f'<text class="reference" x="{x(reference_s) + 6:.1f}" y="{top + 10}">'
        f"the published loop ends, {reference_s:.1f} s</text>",
        f'<text x="60" y="{bottom + 24}">seconds of screening and search; exact match in percent</text>',
    ]
    return svg(height, parts, "Exact match of auto against seconds of search")
