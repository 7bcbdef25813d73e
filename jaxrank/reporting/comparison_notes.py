"""Notes on the comparisons of the table's entries."""

from collections.abc import Sequence

import numpy as np

from jaxrank.baselines import CHANCE
from jaxrank.evaluation.comparison import Differences, Standings
from jaxrank.evaluation.leaderboard import YARDSTICK
from jaxrank.evaluation.seed_variance import FOLDS, SEEDS, UNKNOWN
from jaxrank.evaluation.selection import POWER, Chosen, PowerAnalysis, power_analysis
from jaxrank.experiments.hyperparameters import LINEAR
from jaxrank.reporting.summary import bracket, listed, percent
from jaxrank.statistics import FEWEST_SERIES

# Larger numbers of seeds are impractical and are not suggested.
_MOST_SEEDS = 20


def comparison_notes(
    names: Sequence[str],
    test: Standings,
    is_candidate_X: np.ndarray,
    yardstick_label: str,
    chosen: Chosen | None,
    *,
    can_use_folds: bool,
    difference: float = 0.03,
) -> list[str]:
    """Returns the notes on comparisons: the best entries, their uncertainty, and what to run next.

    Args:
      names: names of the entries.
      test: standings of the entries on the test pairs.
      is_candidate_X: see `Hits`.
      yardstick_label: name of the strongest baseline in sentences.
      chosen: from `selection.select_experiment`.
      can_use_folds: whether the search has one split that --folds could replace.
      difference: smallest difference of accuracy that matters to a reader.
    """
    if chosen is None:
        return []
    selected = _about_selected(names, test, chosen, can_use_folds)
    if test.num_series < FEWEST_SERIES:
        return [*selected, _too_few(test, can_use_folds)]
    trained_X = is_candidate_X & np.isfinite(test.mean)
    return [
        *selected,
        *_about_yardstick(names, test, trained_X, yardstick_label, chosen.entry),
        *_about_best(names, test, trained_X),
        _about_brackets(test),
        *_about_next(names, test, trained_X, chosen.entry, difference, can_use_folds),
    ]


def _about_brackets(test: Standings) -> str:
    seeds = {
        SEEDS: f" They allow for other seeds, by the variance among {test.num_seeds}, too.",
        FOLDS: " They allow for other seeds, by the variance among folds, too.",
        UNKNOWN: "",
    }
    return (
        "In brackets: 95% confidence intervals of the accuracies of these trained models, not "
        "adjusted for multiple comparisons or selection; intervals of differences are simultaneous "
        f"for all experiments, with a nominal level of 97.5%.{seeds[test.seed_source]}"
    )


def _about_selected(
    names: Sequence[str], test: Standings, chosen: Chosen, can_use_folds: bool
) -> list[str]:
    x = chosen.entry
    right = (
        f"{names[x]}, test accuracy {percent(chosen.raw)}"
        f"{bracket(test.ci_low[x], test.ci_high[x], '%')} on {test.num_pairs:,} pairs"
    )
    if chosen.num_candidates == 1:
        return [f"The only candidate: {right}."]
    candidates = f"{chosen.num_candidates} candidates"
    if LINEAR in (names[candidate] for candidate in chosen.candidates):
        candidates += f" (the reference {LINEAR} is one)"
    if not chosen.out_of_fold:
        lines = [f"Selected on validation from {candidates}: {right}."]
        best = int(np.nanargmax(test.mean))
        if test.mean[best] > test.mean[x]:
            hint = "; with --folds=5 all pairs take part in the selection" * can_use_folds
            lines.append(
                f"Best on test: {names[best]}, {percent(test.mean[best])}. The test pairs of one "
                f"split do not select{hint}."
            )
        return lines
    line = f"Best of {candidates}: {right}."
    if np.isnan(chosen.accuracy):
        line += " The selection biases this upwards; there are too few series to correct it."
    elif percent(chosen.accuracy) != percent(chosen.raw):
        line += f" Corrected for the selection: {percent(chosen.accuracy)}."
    return [line]


def _too_few(test: Standings, can_use_folds: bool) -> str:
    hint = " --folds=5 tests every series." * can_use_folds
    return (
        f"Only {test.num_series} series test: too few for intervals or comparisons, so the order "
        f"may be chance. At least {FEWEST_SERIES} are needed, hundreds are useful.{hint}"
    )


_USELESS = (
    "Do not pick photos by it: these features do not predict these preferences, or there are too "
    "few preferences to show it."
)


def _about_yardstick(
    names: Sequence[str], test: Standings, trained_X: np.ndarray, label: str, selected: int
) -> list[str]:
    """Compares with the strongest baseline, and with chance where that is not implied."""
    to, to_chance = test.to[YARDSTICK], test.to[CHANCE]
    is_chance = to.reference == to_chance.reference
    share = percent(test.mean[to.reference])
    against = (
        "chance (the baseline chosen is no better)"
        if is_chance
        else f"the strongest baseline ({label})"
    )
    better_X, worse_X = trained_X & to.better, trained_X & to.worse
    if better_X.any():
        order = _by_mean(better_X, test)
        named = listed(f"{names[x]} by {_points(to, x)}" for x in order)
        lines = [f"Better than {against}, {share}: {named}."]
    else:
        lines = [f"No experiment is shown to be better than {against}, {share}."]
    if not better_X[selected]:
        worse = ": it is worse" if worse_X[selected] else ""
        difference = f"{_points(to, selected)}{worse}"
        lines.append(f"The difference of {names[selected]} to it: {difference}.")
    worse_X[selected] = False
    if worse_X.any():
        order = _by_mean(worse_X, test)
        named = listed(f"{names[x]} by {_points(to, x, -1)}" for x in order)
        lines.append(f"Worse than {CHANCE if is_chance else against}: {named}.")
    if better_X[selected]:
        return lines
    # Even by itself, without the allowance for several experiments and for seeds.
    useless = f" {_USELESS}" if test.ci_low[selected] <= 0.5 else ""
    if is_chance:
        return [*lines, useless.strip()] if useless else lines
    if to_chance.better[selected]:
        lines.append(
            f"Better than chance, all the same: {names[selected]} by "
            f"{_points(to_chance, selected)}."
        )
    else:
        lines.append(f"{names[selected]} is not shown to be better than chance either.{useless}")
    return lines


def _about_best(names: Sequence[str], test: Standings, trained_X: np.ndarray) -> list[str]:
    """Lists entries that may be the best on new series, and how far the others are below."""
    best = test.to_best.reference
    others_X = np.isfinite(test.mean) & (np.arange(len(names)) != best)
    # Excludes experiments dropped by a rung, and the mixed baseline, whose parts are entries, too.
    others_X &= np.isfinite(test.best_ci_low)
    tied_X, lower_X = others_X & test.tied_for_best, others_X & ~test.tied_for_best
    lines = []
    to = test.to[YARDSTICK]
    # Differences to the baseline alone have narrower intervals. The list must not contradict the
    # sentences about them.
    if best == to.reference:
        tied_X &= ~(trained_X & to.worse)
    elif trained_X[best] and to.better[best]:
        tied_X[to.reference] = False
    # A bound of 100 points is none: too few series or seeds.
    bounded_X = test.best_ci_low > -1
    if tied_X.any():
        named = listed(
            names[x]
            + f" (up to {abs(100 * test.best_ci_low[x]):.1f} points below it)" * bool(bounded_X[x])
            for x in _by_mean(tied_X, test)
        )
        line = f"The best may be {names[best]} or one of these: {named}."
        # Then another interval of the same two entries may be in a sentence above.
        if (tied_X & bounded_X).any() and (best == to.reference or tied_X[to.reference]):
            line += (
                " These bounds, unlike intervals to the baseline, allow for any entry to be the "
                "best."
            )
        lines.append(line)
    else:
        lines.append(f"{names[best]} is shown to be the best of the entries compared.")
    if best == to.reference:  # compared with the trained entries already
        lower_X &= ~(trained_X & to.worse)
    if lower_X.any():
        first, *more = _by_mean(lower_X, test)
        low, high = abs(100 * test.best_ci_high[first]), abs(100 * test.best_ci_low[first])
        also = f", and {len(more)} more" if more else ""
        lines.append(
            f"Worse than the best entry ({names[best]}): {names[first]} by "
            f"{-100 * test.to_best.difference[first]:.1f} points ({low:.1f} to {high:.1f}){also}."
        )
    return lines


def _about_next(
    names: Sequence[str],
    test: Standings,
    trained_X: np.ndarray,
    selected: int,
    difference: float,
    can_use_folds: bool,
) -> list[str]:
    """Suggests the next run: the series or seeds that undecided comparisons need."""
    lines = []
    if test.seed_source == UNKNOWN:
        once = "One seed and one fold" if test.num_folds == 1 else "One seed"
        lines.append(
            f"{once}: all of this is about these trained models. Retraining with other seeds may "
            f"change the order. Next: {'--folds=5 ' * can_use_folds}--num_seeds=3."
        )
    to = test.to[YARDSTICK]
    rivals_X = trained_X & test.tied_for_best
    rivals_X[selected] = False
    if not to.better[selected]:
        need, whom = power_analysis(test, to, trained_X, difference), "to the strongest baseline"
    elif rivals_X.any():
        need, whom = (
            power_analysis(test, test.to_best, trained_X, difference),
            "between two experiments",
        )
    else:
        return lines or [f"No further run is needed to prefer {names[selected]}."]
    if need is None:
        return lines
    points = f"{100 * need.difference:g} points"
    line = (
        f"Power: this search detects a true difference of {points} {whom} with probability "
        f"{_probability(need.power)}"
    )
    if need.power >= POWER:
        return [*lines, f"{line}; more series or seeds would add little. Next: other features or "
                "experiments."]  # fmt: skip
    return [*lines, f"{line}. {_ways(need, test, can_use_folds)}"]


def _probability(share: float) -> str:
    """Formats a probability; rounding must not make it impossible or certain."""
    if share < 0.01:
        return "less than 1%"
    return "more than 99%" if share > 0.99 else f"{100 * share:.0f}%"


def _ways(need: PowerAnalysis, test: Standings, can_use_folds: bool) -> str:
    """Describes the series or seeds that detect the difference with probability POWER."""
    ways = []
    if need.num_series is not None:
        hint = "; --folds=5 tests every series" * can_use_folds
        number = float(f"{need.num_series:.2g}")  # two digits, since it is an estimate
        ways.append(f"about {number:,.0f} test series (now {test.num_series:,}{hint})")
    if need.num_seeds is not None and need.num_seeds <= _MOST_SEEDS:
        ways.append(f"--num_seeds={need.num_seeds} (now {test.num_seeds:,})")
    if not ways:
        return "Next: more series and more seeds together."
    return f"A power of {100 * POWER:.0f}% needs {' or '.join(ways)}."


def _points(to: Differences, x: int, sign: int = 1) -> str:
    """Formats a difference with its interval; sign -1 reverses it."""
    low, high = sorted((sign * to.low[x], sign * to.high[x]))
    return f"{100 * sign * to.difference[x]:.1f} points{bracket(low, high)}"


def _by_mean(chosen_X: np.ndarray, table: Standings) -> list[int]:
    """Sorts entries from the highest mean to the lowest."""
    return sorted(np.flatnonzero(chosen_X).tolist(), key=lambda x: -table.mean[x])
