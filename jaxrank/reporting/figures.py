"""Figures as PNG files.

Figures are drawn one at a time: Matplotlib is not thread-safe, and a search draws in two threads.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

import numpy as np
import pandas as pd

from jaxrank.evaluation.calibration import CHANCE_LOG_LOSS
from jaxrank.evaluation.comparison import Standings
from jaxrank.evaluation.reliability import Reliability
from jaxrank.evaluation.resampling import Interval
from jaxrank.io import atomic
from jaxrank.io.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Half the width of a 95% interval, in standard errors.
_INTERVAL = 1.96
_DRAWING = threading.Lock()
_Parameters = ParamSpec("_Parameters")


def _one_at_a_time(draw: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    @functools.wraps(draw)
    def locked(*arguments: _Parameters.args, **keywords: _Parameters.kwargs) -> None:
        with _DRAWING:
            draw(*arguments, **keywords)

    return locked


@_one_at_a_time
def draw_reliability(path: Path, title: str, measured: Reliability) -> None:
    """Draws agreement with single votes by confidence, with 95% intervals of the bins."""
    figure = _figure(7, 6, layout="constrained")
    _set_title(figure, title)
    axes = figure.subplots()
    end = min(1.0, float(measured.confidence_C.max(initial=0.6)) + 0.02)
    axes.plot([0.5, end], [0.5, end], color="grey", linestyle=":", label="perfect calibration")
    axes.errorbar(
        measured.confidence_C,
        measured.agreement_C,
        yerr=_INTERVAL * np.nan_to_num(measured.error_C),
        color="tab:blue",
        linestyle="none",
        marker="o",
        capsize=3,
        label="observed, with 95% interval",
    )
    axes.set_title(_caption(measured), fontsize="medium")
    axes.set_xlabel("confidence: predicted share of votes for the likely winner")
    axes.set_ylabel("agreement: its share of the votes")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    with atomic.atomic_file(path, "wb") as file:
        figure.savefig(file, dpi=110, format="png")


def _figure(width: float, height: float, **options: Any) -> "Figure":
    """Returns an empty figure of the given size in inches."""
    # The import takes half a second, and a search needs it only at its end.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), **options)


def _set_title(figure: "Figure", *lines: str) -> None:
    """Sets the figure's title from plain text.

    Names and caveats come from users, so math and control characters are not interpreted.
    """
    figure.suptitle("\n".join(map(printable, lines)), parse_math=False)


def _caption(measured: Reliability) -> str:
    by_chance = measured.calibration_error_by_chance
    expected = "" if np.isnan(by_chance) else f", {100 * by_chance:.1f} by chance alone"
    return (
        f"log loss {measured.log_loss:.4f} (chance {CHANCE_LOG_LOSS:.4f}, least possible "
        f"{measured.entropy:.4f})\n"
        f"calibration error {100 * measured.calibration_error:.1f} points{expected}\n"
        f"{measured.num_pairs:,} pairs of {measured.num_series:,} series; "
        f"{len(measured.count_C)} bins of about equal counts"
    )


# Intervals between ticks of a learning curve's axis: half of the time of drawing goes into ticks.
_MOST_TICKS = 6
# Maximum number of rows in the figure; more would be illegible.
_MOST_DRAWN = 80


@_one_at_a_time
def draw_leaderboard(
    path: Path,
    names: Sequence[str],
    validation: Interval,
    test: Standings,
    baseline: int | None,
    caveats: Sequence[str],
) -> None:
    """Draws means with their intervals, one row per entry, the highest validation mean on top.

    Filled markers may be the best, by the test pairs. Each interval belongs to its own mean: two
    intervals may overlap although the difference of the means is significant.
    """
    order = sorted(
        np.flatnonzero(np.isfinite(test.mean)).tolist(),
        key=lambda x: np.nan_to_num(validation.mean[x]),
    )
    left_out = len(order) - _MOST_DRAWN
    if left_out > 0:
        order = order[-_MOST_DRAWN:]
        caveats = [*caveats, f"{left_out:,} entries with a lower validation mean are not drawn"]
    figure = _figure(9, 1.8 + 0.32 * len(order), layout="constrained")
    _set_title(figure, "Accuracy on new series, with 95% intervals", *caveats)
    axes = figure.subplots()
    is_tied = test.tied_for_best[order]
    for split, colour, label, offset in (
        (validation, "tab:orange", "validation", 0.14),
        (Interval(test.mean, test.ci_low, test.ci_high), "tab:blue", "test", -0.14),
    ):
        mean, low, high = (100 * values[order] for values in split)
        rows = np.arange(len(order)) + offset
        axes.hlines(rows, low, high, color=colour, linewidth=1.5)
        for filled, chosen in ((colour, is_tied), ("white", ~is_tied)):
            axes.plot(
                mean[chosen], rows[chosen], "o", color=colour, markerfacecolor=filled, markersize=5
            )
        axes.plot([], [], "o-", color=colour, label=label)
    axes.plot([], [], "o", color="grey", label="filled: may be the best (test)")
    if baseline is not None and np.isfinite(test.mean[baseline]):
        axes.axvline(
            100 * test.mean[baseline],
            color="grey",
            linestyle="--",
            label=f"baseline {names[baseline]} (test)",
        )
    labels = [printable(names[x]) for x in order]
    axes.set_yticks(range(len(order)), labels, parse_math=False)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel("pairs ordered as people do, %")
    axes.grid(axis="x", alpha=0.3)
    legend = figure.legend(loc="outside lower center", ncols=4, frameon=False)
    for text in legend.get_texts():  # the legend is laid out when the figure is drawn
        text.set_parse_math(False)
    with atomic.atomic_file(path, "wb") as file:
        figure.savefig(file, dpi=110, format="png")


class _Panel(NamedTuple):
    """Axes of one metric, and its artists for each split: thin lines and a thick one."""

    axes: "Axes"
    metric: str
    artists: "dict[str, tuple[LineCollection, Line2D]]"


@_one_at_a_time
def draw_curves(path: Path, title: str, history: pd.DataFrame) -> None:
    """Draws loss and accuracy by epoch.

    Thin lines are trials. The thick line is their mean over the epochs that all trials reached.
    """
    figure, panels = _curves_figure(title.count("\n") + 1)
    _set_title(figure, title)
    trials = [
        {name: trial[name].to_numpy() for name in trial}
        for _, trial in history.groupby(["fold", "seed"])
    ]
    last = min(trial["epoch"].max() for trial in trials) if trials else 0
    shared = history[history["epoch"] <= last].groupby("epoch").mean()
    for axes, metric, artists in panels:
        for split, (thin, thick) in artists.items():
            column = f"{split}_{metric}"
            thin.set_segments([np.column_stack([t["epoch"], t[column]]) for t in trials])
            thick.set_data(shared.index.to_numpy(), shared[column].to_numpy())
        drawn = history[[f"{split}_{metric}" for split in artists]].to_numpy().ravel()
        if metric == "accuracy":
            drawn = np.append(drawn, 0.5)  # the line of chance
        axes.set_xlim(*_limits(history["epoch"].to_numpy()))
        axes.set_ylim(*_limits(drawn[np.isfinite(drawn)]))
    with atomic.atomic_file(path, "wb") as file:
        # Little compression: the file is a tenth larger and takes a tenth less time.
        figure.savefig(file, dpi=110, format="png", pil_kwargs={"compress_level": 1})


@functools.cache
def _curves_figure(title_lines: int) -> "tuple[Figure, tuple[_Panel, ...]]":
    """The figure of the learning curves, without curves.

    It is made once: making it takes as long as drawing it.
    """
    from matplotlib.collections import LineCollection

    # Axes and legends have fixed positions: automatic layout takes twice as long as the rest.
    figure = _figure(10, 3.7 + 0.2 * title_lines)
    height = figure.get_figheight()
    top = 1 - (0.2 + 0.2 * title_lines) / height
    figure.subplots_adjust(0.07, 0.5 / height, 0.985, top, 0.17)
    panels = []
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        artists = {}
        for split, colour, label in (
            ("running_train", "tab:blue", "train (running, with dropout)"),
            ("val", "tab:orange", "validation"),
        ):
            thin = LineCollection([], colors=colour, alpha=0.3, linewidths=0.8)
            (thick,) = axes.plot([], [], color=colour, linewidth=2, marker=".", label=label)
            artists[split] = axes.add_collection(thin), thick
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.locator_params(nbins=_MOST_TICKS)
        axes.grid(alpha=0.3)
        if metric == "accuracy":
            axes.axhline(0.5, color="grey", linestyle=":", label="chance")
        axes.legend(loc="upper right" if metric == "loss" else "lower right")
        panels.append(_Panel(axes, metric, artists))
    return figure, tuple(panels)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of an axis around finite values, with margins as Matplotlib's."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = 0.05 * ((high - low) or max(abs(high), 1.0))
    return low - margin, high + margin
