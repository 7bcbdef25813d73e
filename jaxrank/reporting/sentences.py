"""What tables and comparisons say, in sentences."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from jaxrank.baselines import POSITION
from jaxrank.data import splits
from jaxrank.evaluation.comparison import UNKNOWN, Standings
from jaxrank.evaluation.evaluator import Evaluator, control_z
from jaxrank.evaluation.selection import POWER, Chosen, Needed, needed
from jaxrank.evaluation.trial_results import COMPLETED, TrialResult
from jaxrank.experiments.few_pairs import FEWEST_STEPS
from jaxrank.experiments.hyperparameters import SHUFFLED
from jaxrank.reporting.summary import HEURISTIC, PARTIAL, percent
from jaxrank.statistics import FEWEST_SERIES


def comparison_notes(
    names: Sequence[str],
    test: Standings,
    is_candidate_X: np.ndarray,
    baseline: int | None,
    chosen: Chosen | None,
    difference: float = 0.03,
) -> list[str]:
    """What the standings of the test split say, in words.

    Args:
      names: of the entries.
      test: their standings on the test pairs, compared with `baseline`.
      is_candidate_X: see `Hits`.
      baseline: the entry that experiments should beat.
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
        if baseline is not None:
            lines += _against_baseline(names, test, is_candidate_X, baseline)
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


def position_notes(names: Sequence[str], test: Standings) -> list[str]:
    """Whether the first photo of a pair is the preferred one more or less often than by chance."""
    if POSITION not in names:
        return []
    x = list(names).index(POSITION)
    if not (test.ci_low[x] > 0.5 or test.ci_high[x] < 0.5):  # nor where there is no interval
        return []
    mean, low, high = (100 * share[x] for share in (test.mean, test.ci_low, test.ci_high))
    return [
        f"Position predicts: image_a is preferred in {mean:.1f}% of the test pairs ({low:.1f} to "
        f"{high:.1f}). A scorer of photos can't use that, but the labels may lean to one side: "
        "check how the pairs were shown."
    ]


def _against_baseline(
    names: Sequence[str], test: Standings, is_candidate_X: np.ndarray, baseline: int
) -> list[str]:
    trained_X = is_candidate_X & np.isfinite(test.mean)
    apart_X = test.separated_XX[baseline]
    better_X = trained_X & apart_X & (test.diff_to_baseline > 0)
    worse_X = trained_X & apart_X & (test.diff_to_baseline < 0)

    def described(x: int) -> str:
        figures = (test.diff_to_baseline[x], test.diff_ci_low[x], test.diff_ci_high[x])
        middle, low, high = (100 * figure for figure in figures)
        return f"{names[x]} by {middle:.1f} points ({low:.1f} to {high:.1f})"

    lines = []
    if better_X.any():
        order = _by_mean(better_X, test)
        lines.append(
            f"Better than the baseline '{names[baseline]}': {_listed(map(described, order))}."
        )
    else:
        lines.append(f"No experiment is shown to be better than the baseline '{names[baseline]}'.")
    for entries_X, claim in (
        (worse_X, "Worse than the baseline"),
        (trained_X & ~apart_X, "Statistically tied with the baseline"),
    ):
        if entries_X.any():
            lines.append(f"{claim}: {_listed(names[x] for x in _by_mean(entries_X, test))}.")
    return lines


def _about_best(names: Sequence[str], test: Standings) -> list[str]:
    best = int(np.nanargmax(test.mean))
    others_X = test.tied_for_best & (np.arange(len(names)) != best)
    low, high = 100 * test.ci_low[best], 100 * test.ci_high[best]
    interval = f" ({low:.1f} to {high:.1f})" if np.isfinite([low, high]).all() else ""
    tied = (
        f"statistically tied with {_listed(names[x] for x in _by_mean(others_X, test))}."
        if others_X.any()
        else "better than every other."
    )
    often = np.flatnonzero(test.bootstrap_rank1 >= 0.05).tolist()
    first = sorted(often, key=lambda x: -test.bootstrap_rank1[x])
    shares = _listed(f"{names[x]} {100 * test.bootstrap_rank1[x]:.0f}%" for x in first)
    return [
        f"Highest on the test pairs: {names[best]}, {100 * test.mean[best]:.1f}%{interval}; {tied}",
        *([f"Share of resamples ranked first: {shares}."] if shares else []),
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


# Standard errors by which the control may be off one half. Folds that share training series are
# dependent, so an interval of 95% is left more often than it says (Bates et al. 2023): wide.
CONTROL_LIMIT = 4
LEAKING = "WARNING: something leaks"


def table_notes(
    summary: pd.DataFrame,
    results: Sequence[TrialResult],
    evaluator: Evaluator,
    ceiling: Mapping[str, float] | None,
) -> list[str]:
    """The sentences below the table.

    Args:
      summary: the rows of `summary.csv`.
      results: of all trials.
      evaluator: that they were measured with.
      ceiling: for simulated data, the accuracies of the best possible scorer.
    """
    lines = []
    trained = summary[(summary["status"] == COMPLETED) & (summary["experiment_name"] != SHUFFLED)]
    if len(trained):
        best = trained.iloc[0]
        heuristics = summary[summary["status"] == HEURISTIC]
        # By more than 32-bit means are rounded.
        better = heuristics[heuristics["val_accuracy"] > best["val_accuracy"] + 1e-6]
        if len(better):
            baseline = better.iloc[0]
            lines.append(
                f"The baseline '{baseline['experiment_name']}' is right on more of the validation "
                f"pairs, {percent(baseline['val_accuracy'])} against "
                f"{percent(best['val_accuracy'])}: on these, nothing that was trained beats it."
            )
    elif not (summary["status"] == PARTIAL).any():
        lines.append("Every trial failed: see the column 'error' of summary.csv.")
    if (
        ceiling is not None
        and np.isfinite([ceiling["val_accuracy"], ceiling["test_accuracy"]]).all()
    ):
        lines.append(
            "The data are SIMULATED, so the ceiling is known: the best possible scorer of these "
            f"features orders {percent(ceiling['val_accuracy'])} of the validation and "
            f"{percent(ceiling['test_accuracy'])} of the test pairs."
        )
    lines += _control(results, evaluator)
    few = _few_steps(results, evaluator)
    if few:
        lines.append(
            f"Hardly trained, with fewer than {FEWEST_STEPS} steps a trial: {_listed(few)}. With "
            "so few pairs make batch_size smaller, and learning_rate and patience larger."
        )
    lines.append(
        "Top-1 and tau (of test series) measure the order of each series' photos, by "
        f"{evaluator.strength_source}."
    )
    return lines


def _control(results: Sequence[TrialResult], evaluator: Evaluator) -> list[str]:
    """What the control with renumbered photos has found."""
    accuracy, z = control_z([r for r in results if r.trial.experiment.is_control], evaluator)
    if np.isnan(z):
        return []
    found = (
        f"the control '{SHUFFLED}', trained and tested on renumbered photos, is right on "
        f"{percent(accuracy)} of the test pairs ({_in_words(z)}; flagged beyond {CONTROL_LIMIT})"
    )
    if abs(z) <= CONTROL_LIMIT:
        return [f"Nothing seems to leak: {found}."]
    return [f"{LEAKING}: {found}. The test pairs are known from training, or hold something but "
            "preferences: no accuracy of this table counts."]  # fmt: skip


def _in_words(z: float) -> str:
    return f"z = {z:+.1f}" if np.isfinite(z) else "z beyond any limit, every series alike"


def _few_steps(results: Sequence[TrialResult], evaluator: Evaluator) -> list[str]:
    """The experiments all of whose trials stopped after fewer than FEWEST_STEPS steps."""
    most: dict[str, int] = {}
    for result in results:
        if result.metrics.completed and not result.trial.experiment.is_control:
            e = result.trial.experiment
            num_pairs = int((evaluator.splits_FM[result.trial.fold] == splits.TRAIN).sum())
            steps = result.metrics.epochs_run * -(-num_pairs // e.batch_size)
            most[e.name] = max(most.get(e.name, 0), steps)
    return [f"{name} ({steps})" for name, steps in most.items() if steps < FEWEST_STEPS]
