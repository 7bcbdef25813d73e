"""The example's photos: what is done to them, and what follows for the preferences."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from small_data import ROOT

from jaxrank.extraction import iqa

PATH = ROOT / "examples" / "degraded_photographs.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("degraded_photographs", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_thirteen_photographs_ship_in_packages(example: ModuleType) -> None:
    photos = example.photographs()
    assert len(photos) == 13
    assert all(min(photo.size) >= 256 for photo in photos.values())


def test_a_series_is_an_original_and_five_worse_versions(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "PHOTOS", tmp_path)
    monkeypatch.setattr(example, "SCENES", 2)
    photos = {"coffee": example.photographs()["coffee"]}
    pairs = example.make_photos(photos, np.random.default_rng(0))
    assert len(pairs) == 2 * 15
    for series, of_series in pairs.groupby("series_id"):
        assert len(list((tmp_path / str(series)).glob("*.jpg"))) == 6
        what = example._what_was_done(of_series)
        assert sorted(what.values()).count("original") == 1
        assert len(set(what.values())) == 6
        against = of_series[of_series["degradation"] != ""]
        for _, pair in against.iterrows():
            if pair["degradation"] == "framing":
                assert pair["preference"] == 0.5
            else:
                assert (what[pair["image_a"]] == "original") == (pair["preference"] > 0.5)


def test_degradations_do_what_they_are_called(example: ModuleType) -> None:
    rng = np.random.default_rng(1)
    wide = example.photographs()["coffee"].resize((384, 384))
    columns = iqa.COLUMNS["extended"]

    def numbers(kind: str | None) -> dict[str, float]:
        image = example.framed(wide) if kind is None else example.DEGRADATIONS[kind](wide, 0.8, rng)
        assert image.size == (256, 256)
        return dict(zip(columns, iqa.measure(image, "extended").tolist(), strict=True))

    original = numbers(None)
    assert numbers("blur")["sharpness"] < original["sharpness"] - 1
    assert numbers("shake")["sharpness"] < original["sharpness"] - 1
    assert numbers("noise")["noise"] > 3 * original["noise"]
    assert numbers("exposure")["exposure"] < original["exposure"]
