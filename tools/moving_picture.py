"""Draws the moving picture of the README and the site: few measured cells become a whole map.

    python tools/moving_picture.py docs/assets/few-to-many.svg

Real data: the deployments of one model in a packaged dataset, a row each. At each step the cells that the planner asks
for are taken from what was measured, the model learns from them and predicts all others; a square's colour is the
throughput, its size how narrow the interval is. The figures below the map are those of that step: cells known, and the
median error on the hidden ones.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pandas as pd

from fewmark import datasets
from fewmark.models.registry import make_model
from fewmark.planning.propose import make_planner
from fewmark.tables.identity import cell_columns, deployment_codes
from fewmark.tables.repeats import measured_cells

DATA, TARGET = "llm-inference-bench", "throughput_tok_s"
STEPS = (4, 8, 12, 16, 24, 32, 48)
MOST_ROWS, LEAST_CELLS = 10, 15
SIDE, GAP, LEFT, TOP, SECONDS = 16, 3, 168, 58, 1.6
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # viridis


def colour(share: float) -> str:
    """Of a value between the least (0) and the largest (1) of the map, on a scale of logs."""
    at = min(max(share, 0.0), 1.0) * (len(RAMP) - 1)
    low = min(int(at), len(RAMP) - 2)
    mixed = (round(a + (at - low) * (b - a)) for a, b in zip(RAMP[low], RAMP[low + 1], strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def table() -> pd.DataFrame:
    """The cells of the model with most deployments that were measured at many lengths and batch sizes."""
    cells = measured_cells(datasets.load(DATA), TARGET)
    size = pd.Series(1, index=cells.index).groupby(deployment_codes(cells)).transform("size")
    cells = cells[size >= LEAST_CELLS]
    model = cells["model"].value_counts().index[0]
    cells = cells[cells["model"] == model]
    code = deployment_codes(cells)
    return cells[code < MOST_ROWS].reset_index(drop=True)


def states(cells: pd.DataFrame) -> list[dict[str, object]]:
    """For each number of known cells: which these are, what is predicted of all, how far the hidden ones are off."""
    columns, truth = cell_columns(cells), cells[TARGET].to_numpy(float)
    planner = make_planner(cells.iloc[:0], cells[columns], None, target=TARGET, random_state=0)
    where = planner.space.locate(cells)
    row_of = {int(position): row for row, position in enumerate(where)}
    known: list[int] = []
    out = []
    for n in STEPS:
        while len(known) < n:
            for proposal in planner.ask(n - len(known)) or planner.probe():
                row = row_of[proposal.position]
                known.append(row)
                planner.tell(proposal.position, truth[row])
        model = make_model("auto", target=TARGET, prior=False).fit(cells.loc[known, columns], truth[known])
        answers = model.answer(cells[columns], 0.9)
        hidden = np.setdiff1d(np.arange(len(cells)), known)
        off = np.abs(answers.value[hidden] / truth[hidden] - 1)
        out.append({"known": set(known), "value": answers.value, "width": np.log(answers.high / answers.low),
                    "off": float(np.nanmedian(off))})  # fmt: skip
    return out


def picture(cells: pd.DataFrame, steps: list[dict[str, object]]) -> str:
    """The SVG; it moves by itself, needs no script, and shows the last step where motion is not wanted."""
    truth = np.log(cells[TARGET].to_numpy(float))
    work = list(zip(cells["input_tokens"], cells["output_tokens"], cells["batch_size"], strict=True))
    columns = sorted(set(work))
    code = deployment_codes(cells)
    rows = [cells.iloc[int(np.flatnonzero(code == number)[0])] for number in range(code.max() + 1)]
    width, height = LEFT + len(columns) * (SIDE + GAP) + 16, TOP + len(rows) * (SIDE + GAP) + 62
    total = SECONDS * (len(steps) + 1)
    title = f"{cells['model'].iloc[0]}: {len(rows)} deployments, {len(columns)} workloads each"
    style = [
        "text{font:13px system-ui,sans-serif;fill:#1d2329}.soft{fill:#56616b;font-size:11px}",
        ".bg{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#e8e7e3}.soft{fill:#a9b2ba}.bg{fill:#14171a}"
        ".known{stroke:#fff}}.known{stroke:#111;stroke-width:2}",
        f".s{{opacity:0;animation:show {total:g}s step-end infinite}}",
    ]
    share = 100 / (len(steps) + 1)
    style.append(f"@keyframes show{{0%{{opacity:1}}{share:.3f}%{{opacity:0}}100%{{opacity:0}}}}")
    last = 2 * share
    style.append(f"@keyframes last{{0%{{opacity:1}}{last:.3f}%{{opacity:0}}100%{{opacity:0}}}}")
    style.append(".last{animation-name:last}@media(prefers-reduced-motion:reduce){.s{animation:none}.last{opacity:1}}")
    body = [f'<rect class="bg" width="{width}" height="{height}" rx="10"/>',
            f'<text x="14" y="24" font-weight="600">{escape(title)}</text>',
            '<text class="soft" x="14" y="42">each square a configuration; outlined: measured; colour: throughput; '
            "size: certainty</text>"]  # fmt: skip
    for i, (ii, oo, _) in enumerate(columns):
        if i == 0 or columns[i - 1][:2] != (ii, oo):
            x = LEFT + i * (SIDE + GAP)
            body.append(f'<text class="soft" x="{x}" y="{height - 42}">{ii:g}→{oo:g}</text>')
    body.append(f'<text class="soft" x="{LEFT - 8}" y="{height - 42}" text-anchor="end">tokens in→out, by batch</text>')
    for j, row in enumerate(rows):
        count = f"{row['accelerator_count']:g}×" if row["accelerator_count"] > 1 else ""
        label = escape(
            f"{row['engine']} · {count}{str(row['accelerator']).removesuffix(' GPU').removeprefix('Nvidia ')}"
        )
        body.append(
            f'<text class="soft" x="{LEFT - 8}" y="{TOP + j * (SIDE + GAP) + 12}" text-anchor="end">{label}</text>'
        )
    for number, step in enumerate(steps):
        kind = "s last" if number == len(steps) - 1 else "s"
        body.append(f'<g class="{kind}" style="animation-delay:{number * SECONDS:g}s">')
        values, widths = np.log(np.asarray(step["value"], float)), np.asarray(step["width"], float)
        known = step["known"]
        assert isinstance(known, set)
        for row in range(len(cells)):
            i, j = columns.index(work[row]), int(code[row])
            is_known = row in known
            value = truth[row] if is_known else values[row]
            if not np.isfinite(value):
                continue
            size = SIDE if is_known else SIDE * float(np.clip(1.05 - 0.45 * widths[row], 0.18, 0.92))
            x, y = LEFT + i * (SIDE + GAP) + (SIDE - size) / 2, TOP + j * (SIDE + GAP) + (SIDE - size) / 2
            fill = colour((value - truth.min()) / np.ptp(truth))
            extra = ' class="known"' if is_known else ""
            body.append(
                f'<rect{extra} x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{size:.1f}" rx="3" fill="{fill}"/>'
            )
        rest = len(cells) - len(known)
        text = f"{len(known)} of {len(cells)} measured · median error on the other {rest}: {step['off']:.1%}"
        body.append(f'<text x="14" y="{height - 14}" font-weight="600">{text}</text></g>')
    about = "Few measured configurations become a map of all"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{about}"><title>{about}</title><style>{"".join(style)}</style>{"".join(body)}</svg>\n'
    )


def main() -> None:
    cells = table()
    steps = states(cells)
    for step in steps:
        print(len(step["known"]), f"{step['off']:.1%}")  # type: ignore[arg-type]
    Path(sys.argv[1]).write_text(picture(cells, steps), encoding="utf-8")


if __name__ == "__main__":
    main()
