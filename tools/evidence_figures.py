"""Draws the figures of the evidence pages from the tables on these pages, so that the two cannot differ.

python tools/evidence_figures.py docs
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

OURS, OTHER, GREY = "#0b6e69", "#b3470f", "#9aa7ad"
STYLE = {"svg.hashsalt": "fewmark", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}


def table(page: Path, start: str) -> list[list[str]]:
    """The rows of the table of a page whose heading begins so, without Markdown; blank cells repeat the one above."""
    lines = page.read_text(encoding="utf-8").split("\n")
    at = next(n for n, line in enumerate(lines) if line.startswith(start))
    rows: list[list[str]] = []
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        cells = [re.sub(r"[*`]", "", cell).strip() for cell in line.strip("|").split("|")]
        rows.append([cell or rows[-1][n] for n, cell in enumerate(cells)] if rows else cells)
    return rows


def value(cell: str) -> float:
    """The first number of a cell."""
    found = re.search(r"\d+(\.\d+)?", cell)
    assert found is not None, cell
    return float(found[0])


def beside(rows: list[tuple[str, float, float]], other: str, out: Path) -> None:
    """Each row as a line between two points: `auto` and the other."""
    figure, axes = plt.subplots(figsize=(7.2, 0.24 * len(rows) + 1.0), layout="constrained")
    places = range(len(rows))
    ours, theirs = [row[1] for row in rows], [row[2] for row in rows]
    axes.hlines(places, ours, theirs, color=GREY, linewidth=2, zorder=1)
    axes.scatter(theirs, places, color=OTHER, label=other, zorder=2, marker="s", s=28)
    axes.scatter(ours, places, color=OURS, label="auto", zorder=3, s=34)
    axes.set(xscale="log", yticks=list(places), yticklabels=[row[0] for row in rows])
    axes.set_xlabel("Median error (%), logarithmic; left is better")
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50) if min(ours + theirs) * 0.8 <= tick <= max(ours + theirs) * 1.2]
    axes.set_xticks(ticks, [f"{tick}%" for tick in ticks])
    axes.minorticks_off()
    axes.invert_yaxis()
    axes.grid(axis="x", color="#e6ebee", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
    save(figure, out)


def over_time(page: Path, out: Path) -> None:
    """The error of planning after each share of the grid's time."""
    line = next(line for line in page.read_text(encoding="utf-8").split("\n") if line.startswith("| 2% | 3% |"))
    shares = [value(cell) for cell in line.strip("|").split("|")]
    cells = table(page, "| 2% | 3% |")[0]
    pairs = [[float(number) for number in re.findall(r"\d+\.\d+", cell)] for cell in cells]
    figure, axes = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
    axes.plot(shares, [pair[0] for pair in pairs], "-o", color=OURS, label="adaptive")
    axes.plot(shares, [pair[1] for pair in pairs], "-s", color=OTHER, label="the next best of nine others")
    axes.set(xlabel="Share of the whole grid's time", ylabel="Median error (%)", ylim=(0, None))
    axes.set_xticks(shares, [f"{share:g}%" for share in shares])
    axes.grid(color="#e6ebee")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save(figure, out)


def save(figure: plt.Figure, out: Path) -> None:
    """As SVG, the same bytes each time, on white so that it can be read on a dark page as well."""
    figure.savefig(out, metadata={"Date": None, "Creator": None}, facecolor="white")
    text = out.read_text(encoding="utf-8")
    out.write_text("\n".join(line.rstrip() for line in text.split("\n")), encoding="utf-8")
    plt.close(figure)


def main(docs: Path) -> None:
    """All figures."""
    evidence, assets = docs / "evidence", docs / "assets"
    with mpl.rc_context(STYLE):
        serving = table(evidence / "other-tables.md", "| data, target | protocol")
        rows = [(f"{row[0]}, {row[1].split(' (')[0]}", value(row[2]), value(row[3])) for row in serving]
        beside(rows, "best baseline", assets / "evidence-serving.svg")
        grids = table(evidence / "small-tables.md", "| table | target, protocol")
        rows = [(f"{row[0]}: {row[1]}", value(row[2]), value(row[3])) for row in grids]
        beside(rows, "best of six others", assets / "evidence-small-grids.svg")
        over_time(evidence / "planning.md", assets / "evidence-planning.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
