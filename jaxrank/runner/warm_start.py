"""Training that begins from a saved model."""

import dataclasses
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrank.configs import REFERENCES
from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset
from jaxrank.errors import UserError
from jaxrank.experiments.hyperparameters import (
    Experiment,
)
from jaxrank.inference.saved_model import SEEN, Model, load_model
from jaxrank.scaling import normal_score_columns


def begin_from(
    folder: Path | str | None,
    experiments: Sequence[Experiment],
    skipped: Container[str],
    data: SplitDataset,
    aside: np.ndarray,
) -> tuple[Model | None, list[Experiment]]:
    """Loads the model that training begins from.

    Args:
      folder: folder of the model; None if training begins at random.
      experiments: all experiments; the references begin at random.
      skipped: names of the experiments that are not trained, and need not fit the model.
      data: the pairs and their splits in the trained folds.
      aside: rows of the pairs that are set aside for confirmation.

    Returns:
      The model, and the experiments with its digest in `init_from`. Without a folder, None and the
      unchanged experiments.

    Raises:
      UserError: the model is an ensemble, has another shape, or has seen photos that measure it.
    """
    if folder is None:
        return None, list(experiments)
    start = load_model(folder)
    check_start(start, folder, [e for e in experiments if e.name not in skipped], data, aside)
    return start, [
        e if e.name in REFERENCES else dataclasses.replace(e, init_from=start.digest)
        for e in experiments
    ]


def check_start(
    start: Model,
    folder: Path | str,
    experiments: Sequence[Experiment],
    data: SplitDataset,
    aside: np.ndarray,
) -> None:
    """Raises a UserError if training can't or must not begin from a model.

    The model must be a single network of the experiments' shape. It must not have seen test photos
    or photos set aside, nor have been trained on validation photos.
    """
    try:
        scaling = start.weights.scaling
    except UserError as error:
        raise UserError(f"--init_from={folder}: {error}") from None
    for e in experiments:
        if e.name in REFERENCES:
            continue
        for key in ("mlp_hidden_dims", "activation", "use_layernorm", "l2_blocks", "input_scaling"):
            its, wanted = getattr(start.card.experiment, key), getattr(e, key)
            if its != wanted:
                raise UserError(
                    f"--init_from={folder}: the model has {key}={_shown(its)}, but experiment "
                    f"'{e.name}' has {_shown(wanted)}; give it the same {key}"
                )
        if start.block_columns != {name: data.dataset.block_columns[name] for name in e.blocks}:
            raise UserError(
                f"--init_from={folder}: experiment '{e.name}' does not read the columns that the "
                f"model reads (blocks {','.join(start.block_columns)})"
            )
        columns_J = normal_score_columns(start.block_columns, e.blocks, e.input_scaling)
        if not np.array_equal(scaling.columns_J, columns_J):
            raise UserError(
                f"--init_from={folder}: the model has normal scores of other columns than "
                f"experiment '{e.name}'; begin from a model that was trained"
            )
        recipes = start.card.recipes
        for name in {*e.blocks} & {*recipes} & {*data.dataset.recipes}:
            if recipes[name].key != data.dataset.recipes[name].key:
                raise UserError(
                    f"--init_from={folder}: block '{name}' was not made as the one that the model "
                    f"was trained on ({recipes[name].source})"
                )
    train, val = (start.seen[how] for how in SEEN)
    folds = ", with --only_folds=K in both" if data.num_folds > 1 else ""
    same_split = f"pretrain with --split=pretrain and the same --split_seed and --folds{folds}"
    same_series = "train it with the same --split, --split_seed, --folds and --confirm_share"
    for name, pairs, known, advice in (
        ("test", (data.splits_FM == splits.TEST).any(axis=0), train | val, same_split),
        ("val", (data.splits_FM == splits.VALIDATION).any(axis=0), train, same_split),
        ("set-aside", aside, train | val, same_series),
    ):
        photos = data.dataset.photos[np.unique(data.dataset.pair_rows_M2[pairs])]
        leaked = [photo for photo in photos if photo in known]
        if leaked:
            raise UserError(
                f"--init_from={folder}: the model has seen {len(leaked):,} of the "
                f"{len(photos):,} {name} photos, such as '{leaked[0]}'; {advice}"
            )


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
