"""Section: main effects of hyperparameters, their importances, and the share of noise."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxrank.configs import REFERENCES
from jaxrank.evaluation import seed_variance
from jaxrank.evaluation.importances import Importance, importances
from jaxrank.evaluation.main_effects import Effect, MainEffects, main_effects
from jaxrank.experiments.hyperparameters import HYPERPARAMETERS, Experiment
from jaxrank.io.tables import write_frame
from jaxrank.reporting.report import Report, Section

EFFECTS_CSV = "effects.csv"
# With fewer series, a selection among experiments is mostly chance.
FEW_SERIES = 30
# Numbers with more than _MOST_VALUES values are binned into _GROUPS groups.
_MOST_VALUES, _GROUPS = 6, 4
_NOT_COMPARED = ("name", "notes", "init_from", "seed")
# Hyperparameters with an effect only where another hyperparameter has the given value.
_CONDITIONS = {"momentum": ("optimizer", "sgd"), "margin": ("loss", "margin_ranking")}
# Hyperparameters that follow from another one where pairs are few; see experiments/few_pairs.py.
_DERIVED_FROM = {"max_epochs": "batch_size", "patience": "batch_size"}
_TITLE = (
    "What each hyperparameter does: accuracy with this value, averaged over the others, and its "
    "difference to all values, in percent and points; 95% intervals, each by itself"
)


def section(report: Report) -> Section:
    ranking = report.ranking
    notes = _few_series_notes(report)
    trained_X = ranking.is_candidate_X | np.isin(ranking.names, list(ranking.endings))
    compared_X = trained_X & ~np.isin(ranking.names, REFERENCES)
    weight_X = ranking.at_first_rung.num_pairs_X
    complete_X = compared_X[: len(weight_X)] & (weight_X == weight_X.max()) & (weight_X > 0)
    chosen = np.flatnonzero(complete_X)
    by_name = {r.trial.experiment.name: r.trial.experiment for r in report.results}
    experiments = [by_name[ranking.names[x]] for x in chosen]
    values = differing(experiments)
    if not values:
        return Section(notes=notes)
    leaders = followed(values)
    values = {key: column for key, column in values.items() if key not in leaders}
    found = main_effects(
        {key: level_names(column) for key, column in values.items()},
        ranking.at_first_rung.hits_XS[chosen],
        ranking.at_first_rung.weight_YS[ranking.at_first_rung.weight_of_X[chosen]],
        np.nan_to_num(ranking.draws.variance_X[chosen]),
    )
    if found is None:
        return Section(notes=notes)
    write_frame(report.folder / EFFECTS_CSV, pd.DataFrame(found.effects))
    importance = importances(values, ranking.at_first_rung.accuracy_X[chosen])
    early = "" if ranking.first_rung_epoch is None else f" at epoch {ranking.first_rung_epoch}"
    least = "at least " if ranking.draws.seeds.source == seed_variance.UNKNOWN else ""
    notes += [
        f"Of the variance among {len(chosen):,} experiments{early}, {least}"
        f"{100 * found.noise_share:.0f}% is noise (sampled series and seeds)."
        + _explained_text(found)
        + _importances(importance),
        _clearest(found.effects),
        *_following_notes(leaders),
    ]
    facts: dict[str, Any] = {
        "main_effects": [effect._asdict() for effect in found.effects],
        "explained": found.shares,
        "noise_share": found.noise_share,
        "ped_anova": {key: one._asdict() for key, one in (importance or {}).items()},
    }
    at = (
        ""
        if ranking.first_rung_epoch is None
        else f". At epoch {ranking.first_rung_epoch}, which all have reached"
    )
    return Section(notes=notes, tables={_TITLE + at: _table(found.effects)}, facts=facts)


def differing(experiments: Sequence[Experiment]) -> dict[str, list[Any]]:
    """Returns the hyperparameters in which the experiments differ, with the value of each.

    A value is None where another hyperparameter makes it irrelevant, as in `_CONDITIONS`.
    """
    found = {}
    for key in HYPERPARAMETERS:
        column = [
            ",".join(map(str, value)) if isinstance(value, tuple) else value
            for value in (_value(e, key) for e in experiments)
        ]
        if key not in _NOT_COMPARED and len({v for v in column if v is not None}) > 1:
            found[key] = column
    return found


def _value(experiment: Experiment, key: str) -> Any:
    other, needed = _CONDITIONS.get(key, (key, getattr(experiment, key)))
    return getattr(experiment, key) if getattr(experiment, other) == needed else None


def level_names(column: Sequence[Any]) -> list[str | None]:
    """Returns the values as text; numbers with many values are binned at quantiles."""
    known = [value for value in column if value is not None]
    numbers = all(type(value) in (int, float) for value in known)
    if not numbers or len(set(known)) <= _MOST_VALUES:
        return [None if value is None else _text(value) for value in column]
    edges = np.quantile(known, np.arange(1, _GROUPS) / _GROUPS)
    groups = [None if v is None else int(np.searchsorted(edges, v, side="left")) for v in column]
    names = {}
    for group in set(groups) - {None}:
        mine = [v for v, g in zip(column, groups, strict=True) if g == group]
        names[group] = f"{_text(min(mine))} to {_text(max(mine))}"
    return [None if group is None else names[group] for group in groups]


def followed(values: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """Finds hyperparameters whose effects are confounded with those of another one.

    Args:
      values: value of each experiment, by hyperparameter.

    Returns:
      The other hyperparameter, by hyperparameter. Either both divide the experiments into the same
      groups, or the value of one follows from the value of the other.
    """
    found: dict[str, str] = {}
    kept: dict[tuple[int, ...], str] = {}
    for key in sorted(values, key=_DERIVED_FROM.__contains__):  # stable: derived ones come last
        levels = level_names(values[key])
        groups = tuple(map(levels.index, levels))
        source = _DERIVED_FROM.get(key, "")
        if source in values and _is_function(values[source], values[key]):
            found[key] = found.get(source, source)
        elif groups in kept:
            found[key] = kept[groups]
        else:
            kept[groups] = key
    return found


def _is_function(source: Sequence[Any], column: Sequence[Any]) -> bool:
    """Whether equal values of the source, of which there are some, have equal values."""
    return len({*zip(source, column, strict=True)}) == len({*source}) < len(source)


def _following_notes(leaders: Mapping[str, str]) -> list[str]:
    return [f"Not estimated: {key}, which varies with {leader}." for key, leader in leaders.items()]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value) or "-"


def _few_series_notes(report: Report) -> list[str]:
    """Returns a warning where the selection among experiments rests on few series."""
    chosen = report.ranking.chosen
    num_series = int(report.ranking.selecting.weight_YS.any(axis=0).sum())
    if chosen is None or chosen.num_candidates < 2 or num_series >= FEW_SERIES:
        return []
    hint = " --folds=5 uses all series." if report.can_use_folds else ""
    return [
        f"WARNING: the choice among {chosen.num_candidates:,} experiments rests on "
        f"{num_series} series: it is chance for the most part.{hint}"
    ]


def _clearest(effects: Sequence[Effect]) -> str:
    """Describes the largest difference whose interval excludes zero."""
    clear = [e for e in effects if e.low > 0 or e.high < 0]
    if not clear:
        return "No value of a hyperparameter differs clearly from the others."
    most = max(clear, key=lambda effect: abs(effect.difference))
    return (
        f"Clearest: {most.key}={most.level}, {100 * most.difference:+.1f} points to the mean "
        f"({100 * most.low:+.1f} to {100 * most.high:+.1f})."
    )


def _explained_text(found: MainEffects) -> str:
    """Lists the hyperparameters that explain most of the variance."""
    most = sorted(found.shares.items(), key=lambda item: -item[1])[:3]
    listed = ", ".join(f"{key} {100 * share:.0f}%" for key, share in most if share >= 0.005)
    return f" Hyperparameters explain: {listed}." if listed else " No hyperparameter explains any."


def _importances(found: Mapping[str, Importance] | None) -> str:
    if not found:
        return ""
    most = sorted(found.items(), key=lambda item: -item[1].share)[:3]
    listed = ", ".join(
        f"{key} {100 * one.share:.0f}% ({100 * one.by_chance:.0f}%)" for key, one in most
    )
    return f" PED-ANOVA among the best tenth (with shuffled accuracies): {listed}."


def _table(effects: Sequence[Effect]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "hyperparameter": [e.key for e in effects],
            "value": [e.level for e in effects],
            "experiments": [e.num_experiments for e in effects],
            "accuracy": [f"{100 * e.accuracy:.1f}" for e in effects],
            "difference": [f"{100 * e.difference:+.1f}" for e in effects],
            "95%": [f"{100 * e.low:+.1f} to {100 * e.high:+.1f}" for e in effects],
        }
    )
