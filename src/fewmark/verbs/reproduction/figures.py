"""The reproduction's figures, one a question, drawn with matplotlib (the ``figures`` extra) as SVG and PNG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

from fewmark.core.files import new_file
from fewmark.evaluation.reproduction import Question
from fewmark.reporting import figures as reporting
from fewmark.tables.arrays import FloatArray

# Okabe and Ito's colours: told apart with any colour vision.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666"
STYLE: dict[RcKeyType, object] = reporting.STYLE | {"font.size": 11, "axes.titlesize": 12}
OF_METHOD = {
    "ALA": BLUE,
    "linear regression": ORANGE,
    "XGBoost": GREEN,
    "random forest": RED,
    "gradient boosting": PURPLE,
}


def draw(question: Question, stem: Path) -> None:
    """Write ``STEM.svg`` and ``STEM.png``."""
    with matplotlib.rc_context(STYLE):
        figure = _DRAW[question.name](question.data)
        with new_file(stem.with_name(stem.name + ".png")) as path:
            figure.savefig(path, dpi=130)
        with new_file(stem.with_name(stem.name + ".svg")) as path:
            figure.savefig(path, metadata={"Date": None})


def _training_sets(data: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    axes = figure.subplots(2, 4, sharey="row")
    bins = np.geomspace(0.1, 1000, 33)
    pair, batch = data["pair"], data["batch"]
    for k, (name, errors) in enumerate(data["errors"].items()):
        grid, histogram = axes[0, k], axes[1, k]
        train = data["train"][name]
        grid.scatter(pair[train], batch[train], s=90, color=BLUE, label="trained on")
        grid.scatter(pair[~train], batch[~train], s=90, facecolor="none", edgecolor=GREY, label="predicted")
        grid.set_xticks(range(len(data["lengths"])), [f"{v:g}" for v in data["lengths"]], fontsize=9)
        grid.set_yticks(range(len(data["batches"])), [f"{v:g}" for v in data["batches"]])
        grid.set_xlim(-0.5, len(data["lengths"]) - 0.5)
        grid.set_ylim(-0.5, len(data["batches"]) - 0.5)
        grid.set_title(name)
        grid.set_xlabel("input = output length (tokens)", fontsize=10)
        histogram.hist(np.clip(errors, bins[0], bins[-1]), bins=bins, color=BLUE, alpha=0.75)
        median = float(np.median(errors))
        histogram.axvline(median, color=RED, linewidth=2)
        histogram.set_xscale("log")
        histogram.set_xlabel("error of a held-out cell (%)", fontsize=10)
        histogram.text(0.03, 0.95, f"median {median:.1f}%", transform=histogram.transAxes, color=RED, va="top")
        histogram.set_xticks([0.1, 1, 10, 100, 1000], ["≤0.1", "1", "10", "100", "≥1000"], fontsize=9)
        histogram.minorticks_off()
    axes[0, 0].set_ylabel("batch size (sequences)")
    axes[1, 0].set_ylabel("held-out cells")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


def _effectiveness(data: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    names = list(OF_METHOD)
    _boxes(axes[0, 0], [data["errors"][name] for name in names], names, list(OF_METHOD.values()))
    axes[0, 0].set_ylabel("median error of a subset (%)")
    axes[0, 0].set_title("(a) Errors over training subsets")
    course = data["course"]
    step = np.arange(1, len(course["ALA"]) + 1)
    for name, colour in OF_METHOD.items():
        heavy = name == "ALA"
        axes[0, 1].plot(step, course[name], color=colour, linewidth=2.4 if heavy else 1.2, label=name)
    axes[0, 1].set_yscale("log")
    axes[0, 1].yaxis.set_major_formatter("{x:g}")
    axes[0, 1].set_xlabel("distinct subset along the annealing")
    axes[0, 1].set_ylabel("median error (%)")
    size = axes[0, 1].twinx()
    size.fill_between(step, course["n_train"], color=GREY, alpha=0.15, step="mid", linewidth=0)
    size.set_ylim(0, 60)
    size.set_yticks([0, 10, 20])
    size.set_ylabel("cells trained on (shaded)", color=GREY, loc="bottom")
    size.grid(visible=False)
    axes[0, 1].legend(fontsize=9, ncols=2, loc="upper center")
    low, high = axes[0, 1].get_ylim()
    axes[0, 1].set_ylim(low / 4, high * 6)
    axes[0, 1].set_title(f"(b) Along the annealing: {data['largest']}", fontsize=11)
    timed = {"ALA": BLUE, "ALA as published": "#56B4E9", **{n: OF_METHOD[n] for n in names[1:]}}
    seconds = [data["seconds"][name] * 1e3 for name in timed]
    _boxes(axes[1, 0], seconds, list(timed), list(timed.values()))
    axes[1, 0].set_ylabel("fit and predict (ms of CPU time)")
    axes[1, 0].set_title("(c) Time to train and predict once")
    edges = np.array([1, 4, 7, 10, 13, 17, 26])
    middles = (edges[:-1] + edges[1:] - 1) / 2
    for name, colour in timed.items():
        values = [
            np.median(data["seconds"][name][(data["n_train"] >= a) & (data["n_train"] < b)] * 1e3)
            if ((data["n_train"] >= a) & (data["n_train"] < b)).any()
            else np.nan
            for a, b in pairwise(edges)
        ]
        axes[1, 1].plot(middles, values, marker="o", color=colour, label=name)
    axes[1, 1].set_yscale("log")
    axes[1, 1].yaxis.set_major_formatter("{x:g}")
    axes[1, 1].set_xlabel("cells trained on")
    axes[1, 1].set_ylabel("fit and predict (ms of CPU time)")
    low, high = axes[1, 1].get_ylim()
    axes[1, 1].set_ylim(low, high * 6)
    axes[1, 1].legend(fontsize=9, ncols=2, loc="upper center")
    axes[1, 1].set_title("(d) Time against training size")
    return figure


def _families(data: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    axes = figure.subplots(1, len(data["errors"]), sharey=True)
    for axis, (split, errors) in zip(axes, data["errors"].items(), strict=True):
        names = [f"{name}\nn = {data['counts'][name]}" for name in errors]
        _boxes(axis, list(errors.values()), names, [BLUE, ORANGE, GREEN, PURPLE, RED][: len(names)])
        axis.set_title(f"Held out: {split} (n deployments)")
    axes[0].set_ylabel("median error of a split (%)")
    return figure


def _uncertainty(data: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    names = list(data["rows"])
    bars = {
        "predicted": ("predicted", BLUE),
        "transferred": ("actual, transferred", RED),
        "retrained": ("actual, retrained", ORANGE),
    }
    for k, (field, (label, colour)) in enumerate(bars.items()):
        for i, name in enumerate(names):
            values = data["rows"][name][field]
            low, middle, high = np.percentile(values, [10, 50, 90])
            x = i + (k - 1) * 0.22
            left.bar(x, middle, 0.2, color=colour, label=label if i == 0 else None)
            left.errorbar(x, middle, [[middle - low], [high - middle]], color="black", capsize=3, linewidth=1)
            left.text(x, high * 1.12, f"{middle:.0f}", ha="center", fontsize=9)
    for i, name in enumerate(names):
        left.plot([i - 0.33], [data["paper"][name][0]], "D", color="white", markeredgecolor=BLUE)
        left.plot([i + 0.33], [data["paper"][name][2]], "D", color="white", markeredgecolor=RED)
    left.plot([], [], "D", color="white", markeredgecolor=GREY, label="paper: predicted (left), actual (right)")
    left.set_yscale("log")
    left.set_ylim(1, 10_000)
    left.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    left.minorticks_off()
    left.set_xticks(range(len(names)), names)
    left.set_ylabel("median error (%)")
    left.legend(fontsize=9, ncols=2, loc="upper left")
    left.set_title("Predicted and actual error")
    for i, name in enumerate(names):
        values = data["rows"][name]["similarity"]
        low, middle, high = np.percentile(values, [10, 50, 90])
        right.bar(i, middle - 0.5, 0.5, bottom=0.5, color=GREEN, label="here" if i == 0 else None)
        right.errorbar(i, middle, [[middle - low], [high - middle]], color="black", capsize=3, linewidth=1)
        right.plot(
            [i], [data["paper"][name][1]], "D", color="white", markeredgecolor=GREY, label="paper" if i == 0 else None
        )
    right.set_ylim(0.5, 1.12)
    right.set_yticks(np.arange(0.5, 1.01, 0.1))
    right.set_xticks(range(len(names)), [name.replace(" on ", "\non ") for name in names])
    right.set_ylabel("similarity 1 / (1 + d)")
    right.legend(fontsize=9, ncols=2, loc="upper left")
    right.set_title("Similarity (the paper's confidence)")
    return figure


def _boxes(axis: Axes, values: list[FloatArray], names: list[str], colours: list[str]) -> None:
    finite = [v[np.isfinite(v)] for v in values]
    drawn = axis.boxplot(finite, widths=0.6, whis=(5, 95), showfliers=False, patch_artist=True)
    for box, colour in zip(drawn["boxes"], colours, strict=True):
        box.set(facecolor=colour, alpha=0.75)
    for median, v in zip(drawn["medians"], finite, strict=True):
        median.set(color="black", linewidth=2)
        x, y = median.get_xdata()[1], float(np.median(v))
        axis.annotate(f"{y:.3g}", (x, y), xytext=(3, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    ticks = [name if "\n" in name else "\n".join(name.rsplit(" ", 1)) for name in names]
    axis.set_xticks(range(1, len(names) + 1), ticks, fontsize=9)
    axis.grid(visible=False, axis="x")


_DRAW: dict[str, Callable[[Mapping[str, Any]], Figure]] = {
    "rq1": _training_sets,
    "rq2": _effectiveness,
    "rq3": _families,
    "rq4": _uncertainty,
}
