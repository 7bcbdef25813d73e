"""Normalises the `pairs` and `features` arguments: path, data frame or object."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from jaxrank.data import importers
from jaxrank.data.feature_store import (
    Block,
    Features,
    check_block,
    check_block_name,
    open_feature_store,
)
from jaxrank.data.memory_blocks import block_of_array, block_of_frame
from jaxrank.data.preferences import Preferences, from_frame, read_preferences, refuse_vote_options
from jaxrank.data.remote_inputs import local_features, local_table
from jaxrank.data.series_ids import is_store
from jaxrank.data.synthetic import simulate
from jaxrank.errors import UserError

# What a user may pass as pairs.
PairsInput: TypeAlias = Path | str | pd.DataFrame | Preferences | None
# Numbers [photos, columns] and the photos' names.
NamedArray: TypeAlias = tuple[np.ndarray, Sequence[str]]
BlockInput: TypeAlias = Block | pd.DataFrame | NamedArray
# What a user may pass as features: a store's folder or a file (.npz, .parquet, .csv), one
# block, or blocks by name.
FeaturesInput: TypeAlias = Path | str | pd.DataFrame | NamedArray | Mapping[str, BlockInput] | None
# The name of a block that is passed without a name.
UNNAMED = "features"
# The caveat of all results on the embedded data.
SIMULATED = "SIMULATED data"
# Recorded in the files as the source of inputs without a path.
EMBEDDED, IN_MEMORY = "embedded", "in memory"


class Inputs(NamedTuple):
    """Pairs and features, read and checked.

    Attributes:
      pairs_source: path of the pairs, EMBEDDED or IN_MEMORY.
      features_source: path of the features, EMBEDDED or IN_MEMORY.
      best_score: best possible score of each photo, for simulated data only.
    """

    pairs: Preferences
    features: Features
    pairs_source: str
    features_source: str
    best_score: pd.Series | None = None


def load_inputs(pairs: PairsInput, features: FeaturesInput, reading: Mapping[str, Any]) -> Inputs:
    """Reads pairs and features; simulates the embedded data if both are None."""
    if (pairs is None) != (features is None):
        given, lacking = ("pairs", "features") if features is None else ("features", "pairs")
        raise UserError(
            f"--{given} is given without --{lacking}: give both, or neither for the embedded "
            "simulated data"
        )
    if pairs is None or features is None:
        refuse_vote_options("the embedded data", **reading)
        simulated = simulate()
        return Inputs(simulated.pairs, simulated.features, EMBEDDED, EMBEDDED, simulated.best_score)
    sources = _source(pairs), _source(features)
    pairs, features = local_table(pairs), local_features(features)
    store = read_features(features)
    checked = _read(pairs, with_series_of(features, reading))
    return Inputs(checked, store, *sources)


def read_features(features: FeaturesInput) -> dict[str, Block]:
    """Reads and checks the blocks of a store, of a file, or of objects in memory.

    A block without a name is called UNNAMED. Named blocks keep their order.

    Raises:
      UserError: the features are invalid; the message names file, block, column and photo.
    """
    features = local_features(features)
    if isinstance(features, Path | str):
        reader = None if os.path.isdir(features) else _READERS.get(Path(features).suffix.lower())
        return open_feature_store(features) if reader is None else reader(features)
    if isinstance(features, Mapping):
        for name in features:
            check_block_name("features", name)
        return {name: _block(f"block '{name}'", name, b) for name, b in features.items()}
    return {UNNAMED: _block("features", UNNAMED, features)}


_READERS: dict[str, Callable[[Path | str], dict[str, Block]]] = {
    ".npz": importers.read_blocks_npz,
    ".parquet": lambda path: {UNNAMED: importers.read_block_parquet(path, block=UNNAMED)},
    ".csv": lambda path: {UNNAMED: importers.read_block_csv(path)},
}


def _block(where: str, name: str, given: object) -> Block:
    if isinstance(given, Block):
        return check_block(where, given)
    if isinstance(given, pd.DataFrame):
        return block_of_frame(where, given, block=name, source="data frame")
    if isinstance(given, tuple) and len(given) == 2:
        values, photos = given
        return block_of_array(where, np.asarray(values), photos, block=name, source="array")
    raise UserError(
        f"{where}: {type(given).__name__} is none of: the path of a store, .npz, .parquet or .csv; "
        "a data frame; a tuple (array, names); or a dict of these by block"
    )


def with_series_of(features: FeaturesInput, reading: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `read_preferences`; `series` defaults to the features' folder."""
    beside = features if isinstance(features, Path | str) and os.path.isdir(features) else None
    given = reading.get("series")
    return {**reading, "series": beside if given is None else given}


def _source(given: object) -> str:
    return str(given) if isinstance(given, str | Path) else IN_MEMORY


def _read(pairs: Path | str | pd.DataFrame | Preferences, reading: dict[str, Any]) -> Preferences:
    if isinstance(pairs, str | Path):
        return read_preferences(pairs, **reading)
    if isinstance(pairs, pd.DataFrame):
        return from_frame(pairs, **reading)
    if isinstance(pairs, Preferences):
        refuse_vote_options(
            "the Preferences object",
            **reading | {"series": None if is_store(reading["series"]) else reading["series"]},
        )
        return pairs
    raise UserError(f"pairs: give a path, a data frame or Preferences, not {type(pairs).__name__}")


def block_caveats(store: Features) -> list[str]:
    """The blocks' warnings for readers of any result, such as random weights."""
    return [f"block {name}: {block.caveat}" for name, block in store.items() if block.caveat]
