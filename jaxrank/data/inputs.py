"""Normalises the `pairs` and `features` arguments: path, data frame or object."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pandas as pd

from jaxrank.data.feature_store import Features, check_block, open_feature_store
from jaxrank.data.preferences import Preferences, from_frame, read_preferences, refuse_vote_options
from jaxrank.data.synthetic import simulate
from jaxrank.errors import UserError

# What a user may hand over as pairs and as features.
PairsInput: TypeAlias = Path | str | pd.DataFrame | Preferences | None
FeaturesInput: TypeAlias = Path | str | Features | None
# The caveat of all that comes of the embedded data.
SIMULATED = "SIMULATED data"
# What stands in the files where a user gave no path.
EMBEDDED, IN_MEMORY = "embedded", "in memory"


class Inputs(NamedTuple):
    """Pairs and features, read and checked.

    Attributes:
      pairs_source, features_source: their path, EMBEDDED or IN_MEMORY.
      best_score: of simulated data, the best possible score of each photo.
    """

    pairs: Preferences
    features: Features
    pairs_source: str
    features_source: str
    best_score: pd.Series | None = None


def load_inputs(pairs: PairsInput, features: FeaturesInput, reading: Mapping[str, Any]) -> Inputs:
    """Reads what was given; without both, makes the embedded simulated data."""
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
    if isinstance(features, Mapping):
        store = {name: check_block(f"block '{name}'", b) for name, b in features.items()}
    else:
        store = open_feature_store(features)
    return Inputs(_read(pairs, reading), store, _source(pairs), _source(features))


def _source(given: object) -> str:
    return str(given) if isinstance(given, str | Path) else IN_MEMORY


def _read(
    pairs: Path | str | pd.DataFrame | Preferences, reading: Mapping[str, Any]
) -> Preferences:
    if isinstance(pairs, str | Path):
        return read_preferences(pairs, **reading)
    refuse_vote_options("a table in memory", **reading)
    if isinstance(pairs, pd.DataFrame):
        return from_frame(pairs)
    if isinstance(pairs, Preferences):
        return pairs
    raise UserError(f"pairs: give a path, a data frame or Preferences, not {type(pairs).__name__}")


def block_caveats(store: Features) -> list[str]:
    """What a reader of any result must know of the blocks, such as that weights were random."""
    return [f"block {name}: {block.caveat}" for name, block in store.items() if block.caveat]
