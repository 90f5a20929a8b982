"""Draws pipeline.svg, the start page's picture: python docs/figures/pipeline.py

Rounded boxes are programs, square ones are files; arrows are what flows.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

WIDTH, HEIGHT = 980, 470
FONT = 'font-family="Helvetica, Arial, sans-serif"'
INK, PROGRAM, FILE, STAGE = "#334155", "#dbeafe", "#f3f4f6", "#99f6e4"

#: name -> left, top, width, colour, lines; a first line in bold, all boxes are 56 high
BOXES = {
    "data": (20, 50, 150, FILE, ["data/<set>", "wav.scp text utt2spk"]),
    "format": (210, 50, 130, PROGRAM, ["format-data", "step 2"]),
    "dump": (380, 50, 130, FILE, ["dump/raw/<set>", "FLAC, text"]),
    "check": (550, 50, 190, PROGRAM, ["make-tokens, check-data", "steps 3, 4"]),
    "stats": (780, 50, 180, PROGRAM, ["collect-stats, step 5", "exp/stats_...: mean, shapes"]),
    "align": (20, 190, 120, STAGE, ["align", "loss: ctc"]),
    "alignment": (180, 290, 150, FILE, ["alignment/alignment", "label or 0 per frame"]),
    "viterbi": (285, 190, 120, STAGE, ["viterbi", "loss: viterbi"]),
    "full_sum": (515, 190, 120, STAGE, ["full_sum", "loss: full_sum"]),
    "nbest": (640, 290, 150, FILE, ["nbest/nbest", "hypotheses, risks"]),
    "mbr": (790, 190, 120, STAGE, ["mbr", "loss: mbr"]),
    "decode": (20, 390, 130, PROGRAM, ["decode-stages", "step 8"]),
    "text": (185, 390, 185, FILE, ["decode/<stage>_<tag>/<set>", "text, token, score, ctm"]),
    "score": (405, 390, 130, PROGRAM, ["score, report", "steps 9, 10"]),
    "results": (570, 390, 150, FILE, ["RESULTS.md", "report/report.md"]),
    "pack": (755, 390, 80, PROGRAM, ["pack", "step 11"]),
    "zip": (870, 390, 95, FILE, ["<tag>.zip", "the model"]),
}
#: from, to, text above the arrow
ARROWS = [
    ("data", "format", ""),
    ("format", "dump", ""),
    ("dump", "check", ""),
    ("check", "stats", ""),
    ("align", "viterbi", "encoder"),
    ("viterbi", "full_sum", "all parameters"),
    ("full_sum", "mbr", "all parameters"),
    ("decode", "text", ""),
    ("text", "score", ""),
    ("score", "results", ""),
    ("pack", "zip", ""),
]
#: corners of the arrows that bend
BENT = [
    [(80, 246), (80, 318), (180, 318)],  # align -> alignment
    [(330, 318), (345, 318), (345, 246)],  # alignment -> viterbi
    [(575, 246), (575, 318), (640, 318)],  # full_sum -> nbest
    [(790, 318), (850, 318), (850, 246)],  # nbest -> mbr
    [(870, 106), (870, 148), (80, 148), (80, 190)],  # statistics -> align
    [(910, 218), (945, 218), (945, 368), (85, 368), (85, 390)],  # mbr -> decode
    [(795, 368), (795, 390)],  # -> pack
]
TITLES = [
    (20, 36, "Data: steps 1 to 5"),
    (100, 176, "Training: step 6, one run of ESPnet for each stage, in exp/<tag>/<stage>/"),
]


def box(left: int, top: int, width: int, colour: str, lines: list[str]) -> str:
    """A box with its lines of text."""
    radius = 2 if colour == FILE else 12
    shape = f'<rect x="{left}" y="{top}" width="{width}" height="56" rx="{radius}" fill="{colour}"'
    parts = [f'{shape} stroke="{INK}"/>']
    middle = left + width // 2
    for number, line in enumerate(lines):
        weight = "bold" if number == 0 else "normal"
        parts.append(
            f'<text x="{middle}" y="{top + 24 + 18 * number}" font-size="12.5" {FONT} '
            f'font-weight="{weight}" text-anchor="middle">{escape(line)}</text>'
        )
    return "\n".join(parts)


def path(corners: list[tuple[int, int]]) -> str:
    """A line along the corners, with a head at its end; not every viewer draws SVG's markers."""
    points = " ".join(f"{x},{y}" for x, y in corners)
    (x, y), (x0, y0) = corners[-1], corners[-2]
    ahead = ((x > x0) - (x < x0), (y > y0) - (y < y0))  # direction of the last piece
    side = (4 * ahead[1], 4 * ahead[0])
    back = (x - 8 * ahead[0], y - 8 * ahead[1])
    head = [(x, y), (back[0] + side[0], back[1] + side[1]), (back[0] - side[0], back[1] - side[1])]
    tip = " ".join(f"{a},{b}" for a, b in head)
    line = f'<polyline points="{points}" fill="none" stroke="{INK}"/>'
    return f'{line}<polygon points="{tip}" fill="{INK}"/>'


def arrow(start: str, end: str, text: str) -> str:
    """A straight arrow from one box to the next, with a text above it."""
    left, top, width = BOXES[start][:3]
    right, y = BOXES[end][0], top + 28
    line = path([(left + width, y), (right, y)])
    if text:
        middle = (left + width + right) // 2
        line += f'\n<text x="{middle}" y="{y - 7}" font-size="11" {FONT} text-anchor="middle">'
        line += f"{escape(text)}</text>"
    return line


def picture() -> str:
    """The whole SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>The pipeline: data, train stages, decoding, and the files between them</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *(
            f'<text x="{x}" y="{y}" font-size="14" {FONT} font-weight="bold">{escape(text)}</text>'
            for x, y, text in TITLES
        ),
        *(path(corners) for corners in BENT),
        *(arrow(*between) for between in ARROWS),
        *(box(*described) for described in BOXES.values()),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
