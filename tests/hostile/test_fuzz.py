"""Bytes that are nearly a good file, for every reader: a value, or one line.

JAXRANK_FUZZ=long, as `make test-long` sets it, tries fifty times as many.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from attack import Inputs
from bad_bytes import nearly
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import encoded, exif, jpeg, scene
from PIL import Image
from safetensors.numpy import save

import jaxrank
from jaxrank.culling.marked_pairs import read_sheet
from jaxrank.data.importers import (
    read_block_csv,
    read_block_npy,
    read_block_parquet,
    read_block_safetensors,
    read_blocks_npz,
)
from jaxrank.data.preference_exports import read_hpd, read_label_studio, read_pick_a_pic
from jaxrank.data.series import read_series
from jaxrank.errors import UserError
from jaxrank.experiments.catalogue import read_catalogue
from jaxrank.experiments.config_files import load_config
from jaxrank.extraction.decoding import UnreadablePhoto, decode
from jaxrank.extraction.partial_rows import PartialRows
from jaxrank.extraction.photos import list_table
from jaxrank.io import seal
from jaxrank.io.printable import printable
from jaxrank.reporting.summary import read_results_json
from jaxrank.runner.device_profile import read_device_profile
from jaxrank.runner.manifest import read_manifest

pytestmark = [
    pytest.mark.fuzz,
    # What NumPy and Orbax warn of in bytes that are refused.
    pytest.mark.filterwarnings("ignore"),
]
fuzzed = settings(settings.get_profile(f"hostile-{os.environ.get('JAXRANK_FUZZ', 'short')}"))


def check(read: Callable[[], object]) -> None:
    """A value, or a refusal that makes one printable line."""
    try:
        read()
    except (UserError, UnreadablePhoto) as error:
        line = printable(" ".join(str(error).split()))
        assert line
        assert line.isprintable()
        line.encode()


def fuzz(path: Path, good: bytes, read: Callable[[], object]) -> None:
    """Tries a reader on what is nearly the good file, and on any bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(good)
    read()  # else nothing but the first test of the bytes would be reached

    @fuzzed
    @given(data=nearly(good) | st.binary(max_size=64))
    def attempt(data: bytes) -> None:
        path.write_bytes(data)
        check(read)

    attempt()


CSV: Mapping[str, tuple[bytes, Callable[[Path], object]]] = {
    "pairs": (
        b"series_id,image_a,image_b,preference\n1,a,b,0.5\n2,c,d,1\n",
        jaxrank.read_preferences,
    ),
    "votes": (
        b"series_id,compareFile1,compareFile2,LEFT,RIGHT\n3,3-1.JPG,3-2.JPG,5,1\n",
        jaxrank.read_preferences,
    ),
    "ratings": (b"series_id,image,rating\n1,a,3\n1,b,4.5\n", jaxrank.read_preferences),
    "picks": (b"series_id,image,pick\n1,a,1\n1,b,0\n", jaxrank.read_preferences),
    "winners": (b"winner,loser\na,b\nc,b\n", jaxrank.read_preferences),
    "choices": (b"series_id,left,right,winner\n1,a,b,a\n1,c,b,tie\n", jaxrank.read_preferences),
    "pair list": (b"1 1 2 0.7 1 2\n1 1 3 0.2 1 3\n", jaxrank.read_preferences),
    "series": (b"series_id,image\n1,a\n1,b\n", read_series),
    "block": (b"image,x,y\na,1,2\nb,3,4e-2\n", read_block_csv),
    "photos": (b"image,path\na,x/a.jpg\nb,b.jpg\n", list_table),
    "sheet": (b"path,series,decision,rating\na,1,pick,5\nb,1,reject,-1\n", read_sheet),
    "label studio": (
        b'[{"data": {"i1": "/data/upload/1/0a1b2c3d-a.jpg", "i2": "/data/local-files/?d=b.jpg"}, '
        b'"annotations": [{"was_cancelled": false, "result": [{"type": "pairwise", "to_name": '
        b'"i1,i2", "value": {"selected": "left"}}]}]}]',
        read_label_studio,
    ),
    "hpd": (
        b'[{"prompt": "x", "image_path": ["a", "b"], "human_preference": [1, 0]}, '
        b'{"prompt": "y", "image_path": ["c", "d", "e"], "rank": [1, 0, 2.5]}]',
        read_hpd,
    ),
    "catalogue": (
        b"experiment_name,mlp_hidden_dims,batch_size,learning_rate,max_epochs,dropout\n"
        b'a,"8,4",16,0.1,3,0\n',
        read_catalogue,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CSV)
def test_fuzz_of_texts(tmp_path: Path, name: str) -> None:
    good, read = CSV[name]
    path = tmp_path / "t.csv"
    fuzz(path, good, lambda: read(path))


FRAMES: Mapping[str, tuple[dict[str, Any], Callable[[Path], object]]] = {
    "pairs": (
        {"series_id": ["1", "2"], "image_a": ["a", "c"], "image_b": ["b", "d"],
         "preference": [0.1, 0.9]},
        jaxrank.read_preferences,
    ),
    "ratings": (
        {"series_id": ["1", "1"], "image": ["a", "b"], "rating": [1, 2]}, jaxrank.read_preferences
    ),
    "picks": (
        {"series_id": ["1", "1"], "image": ["a", "b"], "pick": [True, False]},
        jaxrank.read_preferences,
    ),
    "winners": ({"winner": ["a", "c"], "loser": ["b", "b"]}, jaxrank.read_preferences),
    "series": ({"series_id": ["1", "1"], "image": ["a", "b"]}, read_series),
    "pick-a-pic": (
        {"caption": ["x", "y"], "image_0_uid": ["a", "c"], "image_1_uid": ["b", "d"],
         "label_0": [1.0, 0.5], "label_1": [0.0, 0.5], "has_label": [True, True]},
        read_pick_a_pic,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in FRAMES if name != "pick-a-pic"])
def test_fuzz_of_json_lines(tmp_path: Path, name: str) -> None:
    values, read = FRAMES[name]
    path = tmp_path / "t.jsonl"
    good = pd.DataFrame(values).to_json(orient="records", lines=True)
    fuzz(path, good.encode(), lambda: read(path))


@pytest.mark.parametrize("name", FRAMES)
def test_fuzz_of_parquet(tmp_path: Path, name: str) -> None:
    values, read = FRAMES[name]
    path = tmp_path / "t.parquet"
    fuzz(path, pd.DataFrame(values).to_parquet(), lambda: read(path))


BLOCK = np.array([[1, 2], [3, 4]], np.float32)


def archive(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, BLOCK)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "parquet"])
def test_fuzz_of_features(tmp_path: Path, kind: str) -> None:
    path, names = tmp_path / f"f.{kind}", tmp_path / "names.txt"
    names.write_text("a\nb\n")
    good, read = {
        "npy": (array, lambda: read_block_npy(path, names, block="x")),
        "npz": (lambda: archive(names=["a", "b"], clip=BLOCK), lambda: read_blocks_npz(path)),
        "safetensors": (
            lambda: save({"x": BLOCK}), lambda: read_block_safetensors(path, names, block="x")
        ),
        "parquet": (
            lambda: pd.DataFrame({"image": ["a", "b"], "x": [1, 2.5]}).to_parquet(),
            lambda: read_block_parquet(path, block="x"),
        ),
    }[kind]  # fmt: skip
    fuzz(path, good(), read)


# Only what can't do harm when a mutation of it is run.
CONFIG = b"""
from jaxrank.configs import default
def get_config():
    config = default.get_config()
    config.dropout = 0.25
    config.modes = {'quick': ('tiny_mlp',)}
    return config
"""
# Each must be written another way to be reached by chance.
CONFIG_VALUES = [b"None", b"[]", b"'\\ud800'", b"10**400", b"{1: 2}", b"config", b"1j", b"print"]


def test_fuzz_of_config_files(tmp_path: Path) -> None:
    path = tmp_path / "c.py"

    @fuzzed
    @given(
        value=st.sampled_from(CONFIG_VALUES)
        | st.binary(max_size=8).map(lambda b: repr(b).encode()),
        place=st.sampled_from([b"0.25", b"{'quick': ('tiny_mlp',)}", b"('tiny_mlp',)", b"'quick'"]),
        end=st.integers(0, len(CONFIG)),
    )
    def attempt(value: bytes, place: bytes, end: int) -> None:
        whole = CONFIG.replace(place, value)
        path.write_bytes(whole if end % 2 else whole[:end])
        check(lambda: load_config(str(path)))

    attempt()


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
DOCUMENTS = st.recursive(
    PLAIN,
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=8), of, max_size=3),
)


def replaced(document: Any, path: list[int], value: Any) -> Any:
    """The document with the value at a place that the numbers lead to."""
    if not path or not isinstance(document, list | dict) or not document:
        return value
    if isinstance(document, list):
        place = path[0] % len(document)
        new = replaced(document[place], path[1:], value)
        return [*document[:place], new, *document[place + 1 :]]
    key = sorted(document)[path[0] % len(document)]
    return document | {key: replaced(document[key], path[1:], value)}


PROFILE = {
    "format": 1,
    "device": "cpu",
    "profile": {"source": "s", "flops_per_second": 1.0, "bytes_per_second": 1.0,
                "step_seconds": 1.0, "compile_seconds": 1.0, "side_by_side": False},
}  # fmt: skip


@pytest.mark.parametrize("name", ["manifest", "results", "plan", "card", "photos", "profile"])
def test_fuzz_of_json_documents(searched: Inputs, name: str) -> None:
    """Values in the place of others, with checksums that are right again."""
    folder, model = searched.workdir, searched.workdir / "iqa_only" / "model"
    path: Path
    path, read = {
        "manifest": (
            searched.store / "manifest.json", lambda: jaxrank.open_feature_store(searched.store)
        ),
        "results": (folder / "results.json", lambda: read_results_json(folder / "results.json")),
        "plan": (folder / "plan.json", lambda: read_manifest(folder)),
        "card": (model / "model.json", lambda: jaxrank.load_model(model)),
        "photos": (model / "photos.json", lambda: jaxrank.load_model(model)),
        "profile": (folder / "p.json", lambda: read_device_profile(folder / "p.json")),
    }[name]  # fmt: skip
    good = PROFILE if name == "profile" else json.loads(path.read_text())

    @fuzzed
    @given(places=st.lists(st.integers(0, 30), max_size=6), value=DOCUMENTS)
    def attempt(places: list[int], value: Any) -> None:
        path.write_text(json.dumps(replaced(good, places, value)))
        if path.parent == model:
            seal.write_seal(model, seal.checksums(model))
        check(read)

    attempt()


def test_fuzz_of_bytes_of_a_model(searched: Inputs) -> None:
    """Any file of it, with checksums that are right again, so that it is read."""
    model = searched.workdir / "iqa_only" / "model"
    kept = searched.folder / "kept"
    shutil.copytree(model, kept)
    files = sorted(p.relative_to(kept) for p in kept.rglob("*") if p.is_file())
    record = json.loads((kept / "model.json").read_text())

    @fuzzed
    @given(file=st.sampled_from(files), data=st.data())
    def attempt(file: Path, data: st.DataObject) -> None:
        good = (kept / file).read_bytes()
        bad = data.draw(nearly(good))
        (model / file).write_bytes(bad)
        if file.name == "model.safetensors":
            record["weights_sha256"] = hashlib.sha256(bad).hexdigest()
            (model / "model.json").write_text(json.dumps(record))
        seal.write_seal(model, seal.checksums(model))
        check(lambda: jaxrank.load_model(model))
        (model / file).write_bytes(good)
        shutil.copy(kept / "model.json", model / "model.json")

    attempt()


def test_fuzz_of_partial_rows(tmp_path: Path) -> None:
    """Arrays that a stopped extraction leaves: what is damaged is skipped."""
    rows = PartialRows(tmp_path, "iqa", {"r": 1}, 2)
    rows.add(["0" * 64, "1" * 64], BLOCK)
    rows.save()
    (path,) = (tmp_path / ".partial").rglob("*.npy")
    fuzz(path, path.read_bytes(), lambda: PartialRows(tmp_path, "iqa", {"r": 1}, 2))


IMAGES: Mapping[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda image: jpeg(image, exif=exif(6, "2024:05:06 07:08:09")),
    "png": lambda image: encoded(image, "PNG"),
    "16 bits": lambda image: encoded(
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG"
    ),
    "tiff": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "webp": lambda image: encoded(image, "WEBP"),
    "gif": lambda image: encoded(image.convert("P"), "GIF"),
    "bmp": lambda image: encoded(image, "BMP"),
    "ppm": lambda image: encoded(image, "PPM"),
    "jp2": lambda image: encoded(image, "JPEG2000"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_fuzz_of_photos(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    path = tmp_path / "photo"
    fuzz(path, IMAGES[kind](scene(0, 24, 16)), lambda: decode(path.read_bytes()))
