"""Folders of photos, and what stands in the stores that are made of them."""

from pathlib import Path

import numpy as np
import pandas as pd
from photo_files import jpeg, scene

from jaxrank.data import feature_store
from jaxrank.extraction.extractors import Options
from jaxrank.io import tables

IQA = Options(blocks=("iqa",))
# A network of 0.5 M parameters with random weights.
SMALL = Options(blocks=("cnn", "iqa"), values={"cnn_model": "test_resnet", "cnn_weights": "none"})


def fill(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        (folder / f"{seed:03d}.jpg").write_bytes(jpeg(scene(seed)))
    return folder


def rows(store: Path, block: str) -> dict[str, np.ndarray]:
    found = feature_store.open_feature_store(store)[block]
    return dict(zip(found.photos, np.array(found.values), strict=True))


def photo_table(store: Path) -> pd.DataFrame:
    table = tables.read_csv(store / feature_store.PHOTOS_CSV)
    return pd.DataFrame(table.rows, columns=table.columns).set_index("image")


def series(store: Path) -> dict[str, list[str]]:
    table = tables.read_csv(store / "series.csv")
    frame = pd.DataFrame(table.rows, columns=table.columns)
    return {str(name): list(group["image"]) for name, group in frame.groupby("series_id")}
