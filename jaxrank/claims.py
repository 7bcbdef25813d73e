"""What standings say, in words and in a figure."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from jaxrank.choice import POWER, Chosen, Needed, needed
from jaxrank.evaluate import FEWEST_SERIES
from jaxrank.io import atomic
from jaxrank.leaderboard import UNKNOWN, Standings

# Rows of the figure; more could not be read.
_MOST_DRAWN = 80


def sentences(
    names: Sequence[str],
    test: Standings,
    is_candidate_X: np.ndarray,
    rule: int | None,
    chosen: Chosen | None,
    difference: float = 0.03,
) -> list[str]:
    """What the standings of the test part say, in words.

    Args:
      names: of the entries.
      test: their standings on the test pairs, compared with `rule`.
      is_candidate_X: see `Hits`.
      rule: the entry that experiments should beat.
      chosen: from `chosen_score`.
      difference: between two experiments, that a reader would care about.
    """
    lines = []
    if test.num_series < FEWEST_SERIES:
        lines.append(
            f"Only {test.num_series} series test: too few to tell experiments apart or to say how "
            f"sure a figure is; at least {FEWEST_SERIES} are needed, hundreds are useful."
        )
    elif np.isfinite(test.mean[is_candidate_X]).any():
        if rule is not None:
            lines += _against_rule(names, test, is_candidate_X, rule)
        lines += _about_best(names, test)
        if test.seed_noise.source == UNKNOWN:
            lines.append(
                "One seed and one fold: this holds for these trained models; trained again, the "
                "order may change. Several seeds (--num_seeds) would tell."
            )
    if chosen is not None:
        lines.append(_about_choice(names[chosen.entry], chosen))
    need = needed(test, is_candidate_X, difference)
    if need is not None:
        lines.append(_about_power(need, test))
    return lines


def _against_rule(
    names: Sequence[str], test: Standings, is_candidate_X: np.ndarray, rule: int
) -> list[str]:
    trained_X = is_candidate_X & np.isfinite(test.mean)
    apart_X = test.separated_XX[rule]
    better_X = trained_X & apart_X & (test.diff_to_rule > 0)
    worse_X = trained_X & apart_X & (test.diff_to_rule < 0)

    def described(x: int) -> str:
        figures = (test.diff_to_rule[x], test.diff_ci_low[x], test.diff_ci_high[x])
        middle, low, high = (100 * figure for figure in figures)
        return f"{names[x]} by {middle:.1f} points ({low:.1f} to {high:.1f})"

    lines = []
    if better_X.any():
        order = _by_mean(better_X, test)
        lines.append(f"Better than the rule '{names[rule]}': {_listed(map(described, order))}.")
    else:
        lines.append(f"No experiment is shown to be better than the rule '{names[rule]}'.")
    for entries_X, claim in (
        (worse_X, "Worse than the rule"),
        (trained_X & ~apart_X, "Can't be told apart from the rule"),
    ):
        if entries_X.any():
            lines.append(f"{claim}: {_listed(names[x] for x in _by_mean(entries_X, test))}.")
    return lines


def _about_best(names: Sequence[str], test: Standings) -> list[str]:
    best = int(np.nanargmax(test.mean))
    others_X = test.tied_for_best & (np.arange(len(names)) != best)
    low, high = 100 * test.ci_low[best], 100 * test.ci_high[best]
    tied = (
        f"it can't be told apart from {_listed(names[x] for x in _by_mean(others_X, test))}."
        if others_X.any()
        else "better than every other."
    )
    often = np.flatnonzero(test.share_first >= 0.05).tolist()
    first = sorted(often, key=lambda x: -test.share_first[x])
    shares = _listed(f"{names[x]} {100 * test.share_first[x]:.0f}%" for x in first)
    return [
        f"Highest on the test pairs: {names[best]}, {100 * test.mean[best]:.1f}% "
        f"({low:.1f} to {high:.1f}); {tied}",
        f"Share of resamples ranked first: {shares}.",
    ]


def _about_choice(name: str, chosen: Chosen) -> str:
    raw, corrected = 100 * chosen.raw, 100 * chosen.corrected
    line = f"Chosen by validation: {name}, right on {raw:.1f}% of the test pairs"
    if chosen.corrected == chosen.raw or chosen.num_candidates == 1:
        return f"{line}; the choice saw none of them, so nothing is to be corrected."
    if np.isnan(corrected):
        return f"{line}; too few series to correct that for the choice."
    return f"{line}, {corrected:.1f}% corrected for the choice among {chosen.num_candidates}."


def _about_power(need: Needed, test: Standings) -> str:
    points = f"{100 * need.difference:g} points"
    line = (
        f"A true difference of {points} between two experiments would be found in "
        f"{100 * need.power:.0f} of 100 such searches"
    )
    if need.power >= POWER:
        return f"{line}."
    ways = []
    if need.num_series is not None:
        hint = "; with --folds every series tests" if test.num_folds == 1 else ""
        number = float(f"{need.num_series:.2g}")  # it is an estimate
        ways.append(f"about {number:,.0f} test series (now {test.num_series:,}{hint})")
    if need.num_seeds is not None:
        ways.append(f"{need.num_seeds:,} seeds (now {test.num_seeds:,})")
    if not ways:
        return f"{line}; more seeds and more series would be needed together."
    return f"{line}; {100 * POWER:.0f} take {' or '.join(ways)}."


def _by_mean(chosen_X: np.ndarray, table: Standings) -> list[int]:
    """Entries from the highest mean to the lowest."""
    return sorted(np.flatnonzero(chosen_X).tolist(), key=lambda x: -table.mean[x])


def _listed(words: Iterable[str], most: int = 8) -> str:
    """At most so many, and how many more."""
    everything = list(words)
    more = len(everything) - most
    return ", ".join(everything[:most]) + (f" and {more} more" if more > 0 else "")


def draw_leaderboard(
    path: Path,
    names: Sequence[str],
    validation: Standings,
    test: Standings,
    rule: int | None,
    caveats: Sequence[str],
) -> None:
    """Means with their intervals, a row an entry, the highest validation mean on top.

    Filled marks are tied for best on the test pairs. Each interval is of its own mean: two may
    overlap although their difference is sure.
    """
    order = sorted(
        np.flatnonzero(np.isfinite(test.mean)).tolist(),
        key=lambda x: np.nan_to_num(validation.mean[x]),
    )
    left_out = len(order) - _MOST_DRAWN
    if left_out > 0:
        order = order[-_MOST_DRAWN:]
        caveats = [*caveats, f"{left_out:,} entries with a lower validation mean are not drawn"]
    figure = Figure(figsize=(9, 1.8 + 0.32 * len(order)), layout="constrained")
    figure.suptitle("\n".join(["Accuracy on new series, with 95% intervals", *caveats]))
    axes = figure.subplots()
    for part, colour, label, offset in (
        (validation, "tab:orange", "validation", 0.14),
        (test, "tab:blue", "test", -0.14),
    ):
        for row, x in enumerate(order):
            mean, low, high = 100 * part.mean[x], 100 * part.ci_low[x], 100 * part.ci_high[x]
            filled = colour if test.tied_for_best[x] else "white"
            axes.plot([low, high], [row + offset] * 2, color=colour, linewidth=1.5)
            axes.plot(mean, row + offset, "o", color=colour, markerfacecolor=filled, markersize=5)
        axes.plot([], [], "o-", color=colour, label=label)
    axes.plot([], [], "o", color="grey", label="filled: tied for best (test)")
    if rule is not None and np.isfinite(test.mean[rule]):
        axes.axvline(
            100 * test.mean[rule], color="grey", linestyle="--", label=f"rule {names[rule]} (test)"
        )
    # Names of columns are a user's.
    labels = ["".join(c if c.isprintable() else "?" for c in names[x]) for x in order]
    axes.set_yticks(range(len(order)), labels, parse_math=False)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel("pairs ordered as people do, %")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    with atomic.atomic_file(path, "wb") as file:
        figure.savefig(file, dpi=110, format="png")
