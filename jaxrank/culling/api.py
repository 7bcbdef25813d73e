"""Culls a folder of photos: groups them, ranks each burst and decides on its photos.

Steps: read the photos, group them, extract the blocks that the model reads, rank, decide. The
work folder caches what was read, so that a second run reads only new photos.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console

from jaxrank import baselines
from jaxrank.culling.changes import kept_changes, read_changes
from jaxrank.culling.decisions import ALTERNATE, BURST, PICK, decide, reasons
from jaxrank.culling.grouping import Group, group_photos
from jaxrank.culling.grouping_table import groups_table, read_groups
from jaxrank.culling.human_decisions import decided_by_person, with_changes, with_marks
from jaxrank.culling.marks import marks_in_folder
from jaxrank.culling.records import Records, read_records
from jaxrank.culling.written_table import WrittenTable
from jaxrank.data import blocks, feature_store
from jaxrank.data.preference_tables import counted
from jaxrank.errors import UserError
from jaxrank.extraction import pipeline
from jaxrank.extraction.extractors import EXTRACTORS, Options
from jaxrank.extraction.photos import Listing, Photo
from jaxrank.inference.rank import NO_PROBABILITIES, NO_SERIES, rank_photos
from jaxrank.inference.saved_model import Model
from jaxrank.inference.scored import open_scorer
from jaxrank.io import atomic

COLUMNS = ("path", "series", "kind", "rank", "score", "p_best", "keep", "decision", "rating",
           "reasons", "changed", "marked")  # fmt: skip
STORE, RECORDS, GROUPS_CSV = "features", "photos.json", "groups.csv"
CHANGES, MARKS = "changes.json", "marks.json"


class Culled(NamedTuple):
    """Result of culling a folder.

    Attributes:
      table: one row per photo with COLUMNS, ordered by series and then by rank; photos that are
        not culled have no rank and no decision.
      files: all files of each photo, RAW files among them, by the name of the file that was read.
      unread: reason why each unusable photo was left out, by name.
      num_new: number of photos that this run read.
      confidence: least probability of a pick; by default infinite for a baseline.
      notes: conclusions and caveats.
    """

    table: pd.DataFrame
    files: dict[str, tuple[str, ...]]
    unread: dict[str, str]
    num_new: int
    confidence: float
    notes: list[str]


def cull(
    folder: Path | str,
    workdir: Path | str,
    *,
    model: Model | Path | str | None = None,
    baseline: str | None = None,
    series: Path | str | None = None,
    confidence: float | None = None,
    changes: Path | str | None = None,
    gap_seconds: float = 10.0,
    weights: Mapping[str, str] | None = None,
    num_workers: int | None = None,
    console: Console | None = None,
    on_groups: Callable[[Sequence[Group]], None] = lambda groups: None,
    on_weights: Callable[[Sequence[str]], None] = lambda names: None,
) -> Culled:
    """Decides on the photos of each burst of a folder; no photo is changed.

    Args:
      folder: folder of photos; its sub-folders are included.
      workdir: folder that caches features and records; it must be outside `folder`.
      model: model as `rank_photos` takes it; without a model, the baseline ranks.
      baseline: name of the baseline that ranks without a model; by default 'signed_sum'.
      series: table of groups that replaces the grouping by time and likeness; see `read_groups`.
        The groups are written to GROUPS_CSV unless that is the table.
      confidence: least probability of a pick. By default, the model's: four of five picks were
        right on series that the model had not seen.
      changes: table with `path` and `decision` or `rating`, as the contact sheet exports it. A
        person's decisions take precedence, also in later runs. So do a person's stars and flags
        in sidecars and photos; see `human_decisions.with_marks`.
      gap_seconds: longest pause between photos of one group; see `group_photos`.
      weights: path of the file of weights that made the model's features, by option of `extract`
        such as 'cnn_weights'. Another file is refused.
      num_workers: number of processes that decode photos.
      console: console that shows progress.
      on_groups: function that receives the groups before the ranking.
      on_weights: function that receives the names of the weights that the model's features need,
        before those that are not on this machine are downloaded.

    Raises:
      UserError: there is no usable photo, the model can't be used for these photos, or a person
        has edited GROUPS_CSV, which is not given as `series`.
    """
    folder, workdir = Path(folder), Path(workdir)
    check_folders(folder, workdir)
    scorer = _open(model, baseline, confidence)
    with atomic.written_to(workdir):
        groups_csv = WrittenTable(workdir / GROUPS_CSV, series, "your groups by --series")
        decisions = kept_changes(workdir / CHANGES, changes)
    found = _read(folder, workdir, num_workers)
    notes: list[str] = []
    if series is None:
        groups = group_photos(found.records, gap_seconds=gap_seconds)
    else:
        groups, notes = read_groups(Path(series), found.records)
    if not groups_csv.is_given:  # a person's own groups stay
        with atomic.written_to(workdir):
            groups_csv.write(groups_table(groups))
    on_groups(groups)
    listing = Listing(folder, [Photo(r.name, folder / r.name) for r in found.records], [])
    recipes = _recipes(scorer, weights or {})
    if names := [name for options in recipes for name in options.weights_to_fetch()]:
        on_weights(names)
    for options in recipes:
        pipeline.extract(listing, workdir / STORE, options, is_cache=True,
                         num_workers=num_workers, console=console)  # fmt: skip
    least = _confidence(scorer, confidence)
    table, rank_notes = _decided(_of_groups(groups), scorer, least, workdir / STORE)
    notes += _unknown(changes, list(table["path"]))
    with atomic.written_to(workdir):
        marks = marks_in_folder(folder, list(table["path"]), workdir / MARKS)
    by_program = table["decision"]
    table = with_changes(with_marks(table, marks.marks), decisions)
    picks = [*_notes(scorer, least, table, confidence is None), *_replaced(by_program, table)]
    return Culled(
        table[list(COLUMNS)],
        {record.name: record.files for record in found.records},
        found.unread,
        found.num_new,
        least,
        [*notes, *rank_notes, *marks.notes, *picks],
    )


def _unknown(changes: Path | str | None, names: Sequence[str]) -> list[str]:
    """A note on changed photos that are not in the folder."""
    given = [] if changes is None else read_changes(changes)
    unknown = sorted(set(given) - set(names))
    if not unknown:
        return []
    number = counted(len(unknown), "photo")
    return [f"{number} of {changes} not in the folder, such as '{unknown[0]}'"]


def _replaced(by_program: pd.Series, table: pd.DataFrame) -> list[str]:
    """A note on the program's picks that are alternates, since a person has a pick."""
    is_replaced = by_program.eq(PICK) & table["decision"].eq(ALTERNATE) & ~decided_by_person(table)
    number = int(is_replaced.sum())
    if not number:
        return []
    are = "is" if number == 1 else "are"
    return [
        f"{counted(number, 'pick')} of the program {are} now alternate, because a person picked "
        f"another photo of {'its burst' if number == 1 else 'their bursts'}"
    ]


def check_folders(folder: Path, workdir: Path) -> None:
    """Raises UserError if there is no folder of photos, or the work folder is inside it."""
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: there is no such folder")
    if workdir.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"--workdir={workdir}: is inside the folder of photos; name one outside")


def _open(
    model: Model | Path | str | None, baseline: str | None, confidence: float | None
) -> Model | str:
    """Returns the model or the baseline's name; raises UserError for unusable arguments."""
    scorer = open_scorer(model, baseline or (None if model is not None else baselines.SIGNED_SUM))
    if confidence is not None and not 0 < confidence <= 1:
        raise UserError(f"--confidence={confidence:g} is not a share above 0, up to 1")
    return scorer


def _read(folder: Path, workdir: Path, num_workers: int | None) -> Records:
    found = read_records(folder, workdir / RECORDS, num_workers=num_workers)
    if not found.records:
        name, reason = next(iter(found.unread.items()))
        raise UserError(f"{folder}: no photo can be used; {name}: {reason}")
    return found


def _recipes(scorer: Model | str, weights: Mapping[str, str]) -> list[Options]:
    """Options of the blocks to extract: the model's blocks by its own recipes, and block iqa.

    The image-quality numbers of iqa describe the photos in the column `reasons`.
    """
    if isinstance(scorer, str):
        return [Options(blocks=[baselines.IQA_BLOCK])]
    recipes, found = scorer.card.recipes, []
    for block in scorer.block_columns:
        if block not in EXTRACTORS or block not in recipes or not recipes[block].options:
            raise UserError(
                f"the model reads block '{block}', and how it was made of photos is unknown: make "
                "a store with 'extract', search with that, and cull by that model"
            )
        values: Mapping[str, Any] = recipes[block].options
        device = values.get("device", "cpu")
        own = {name: weights.get(name, value) for name, value in values.items()}
        own.pop("device", None)
        found.append(Options(blocks=[block], device=device, values=own))
    if baselines.IQA_BLOCK not in scorer.block_columns:
        found.append(Options(blocks=[baselines.IQA_BLOCK]))
    return found


def _confidence(scorer: Model | str, wanted: float | None) -> float:
    if wanted is not None:
        return wanted
    return math.inf if isinstance(scorer, str) else scorer.card.calibration.confidence


def _of_groups(groups: Sequence[Group]) -> pd.DataFrame:
    rows = [
        {"series_id": group.photos[0], "image": name, "kind": group.kind}
        for group in groups
        for name in group.photos
    ]
    return pd.DataFrame(rows)


def _decided(
    photos: pd.DataFrame, scorer: Model | str, least: float, store: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Table of all photos, with ranks and the program's decisions for bursts; and notes.

    Args:
      photos: table of `_of_groups`.
      scorer: model, or name of a baseline.
      least: least probability of a pick.
      store: folder of the feature store.
    """
    bursts = photos[photos["kind"] == BURST]
    columns, notes = ["rank", "score", "p_best", "keep", "decision", "reasons"], list[str]()
    if len(bursts):
        ranked, notes = _ranked(bursts, scorer, store)
        ranked["decision"] = decide(ranked, least, has_model=not isinstance(scorer, str))
        photos = photos.join(ranked.set_index("image")[columns], on="image")
        place = pd.factorize(photos["series_id"])[0]
        photos = photos.iloc[np.lexsort((photos["rank"].fillna(0), place))]
    table = photos.rename(columns={"image": "path", "series_id": "series"})
    table = table.reindex(columns=[*table.columns, *[c for c in columns if c not in table]])
    return table.astype({"rank": "Int64", "decision": object}).reset_index(drop=True), notes


def _ranked(
    bursts: pd.DataFrame, scorer: Model | str, store: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Photos of bursts in the order of `rank_photos`, with reasons; and notes.

    The reasons of a baseline name only numbers that it reads.
    """
    features = feature_store.open_feature_store(store)
    named = {"baseline": scorer} if isinstance(scorer, str) else {"model": scorer}
    found = rank_photos(features=features, series=bursts[["series_id", "image"]], **named)
    ranked = found.table[found.table["series_id"] != ""].copy()
    iqa = features[baselines.IQA_BLOCK]
    values = pd.DataFrame(np.asarray(iqa.values), index=list(iqa.photos), columns=iqa.columns)
    numbers = [name for name in baselines.KNOWN_DIRECTIONS if name in values]
    if isinstance(scorer, str) and scorer != baselines.SIGNED_SUM:  # one number picks
        numbers = [scorer]
    for name in numbers:
        ranked[name] = values[name].reindex(ranked["image"]).to_numpy()
    recipe = blocks.recipe_of(iqa)
    is_classic = recipe is not None and recipe.recipe.get("numbers") == "classic"
    ranked["reasons"] = reasons(ranked, numbers, is_classic=is_classic)
    repeated = (NO_SERIES, NO_PROBABILITIES)
    return ranked, [note for note in found.notes if not note.endswith(repeated)]


def _notes(
    scorer: Model | str, confidence: float, table: pd.DataFrame, is_default: bool
) -> list[str]:
    """Describes the picks; `is_default` means that `confidence` is the model's."""
    in_bursts = table[table["kind"] == BURST]
    if not len(in_bursts):
        return ["there is no burst: nothing to decide"]
    picks = in_bursts[in_bursts["decision"] == PICK]
    num_bursts = in_bursts["series"].nunique()
    by_person = decided_by_person(picks)
    own = picks.loc[by_person, "series"].nunique()
    whose = f", {own:,} of them a person's" * bool(own)
    lines = [f"{picks['series'].nunique():,} of {num_bursts:,} bursts have a pick{whose}"]
    if marked := int(in_bursts["marked"].sum()):
        photos = counted(marked, "photo")
        lines.append(f"{photos} of bursts with a person's stars or flags, which stay")
    if isinstance(scorer, str):
        number = counted(int((~by_person).sum()), "pick")
        lines.append(
            f"{number} by the baseline {scorer}: without preferences nothing says how sure a pick "
            "is, or which other photos to keep"
        )
    elif not scorer.card.calibration.beats_chance:
        lines.append(
            "the model decides nothing: on held-out series, its probabilities were no better than "
            "chance; it needs more preferences, or other features"
        )
    elif math.isinf(confidence):
        lines.append(
            "no picks: on held-out series, no confidence limit gave 80% correct picks; give a "
            "limit with --confidence=0.5"
        )
    else:
        held_out = "; on held-out series, 80% of the picks above it were right" * is_default
        lines.append(f"limit of --confidence: {confidence:.2f}{held_out}")
    return lines
