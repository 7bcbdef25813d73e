"""What a saved model says of itself, in model.json and for people."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_data import card_of, experiment

from jaxrank.data.feature_store import Recipe
from jaxrank.errors import UserError
from jaxrank.evaluation.calibration import Calibration
from jaxrank.evaluation.ensembles import SINGLE
from jaxrank.experiments.hyperparameters import default_experiment
from jaxrank.inference.model_card import Evidence, ModelCard
from jaxrank.inference.saved_model import Model, load_model, save_model
from jaxrank.io import seal
from jaxrank.scaling import fit_scaling
from jaxrank.training.state import InitialWeights

EVIDENCE = Evidence(
    accuracy=0.612,
    low=0.58,
    high=0.64,
    measured_on="test pairs of 5 folds, by the folds' models of the same configuration",
    num_pairs=7152,
    num_series=2341,
    num_photos=5953,
    split="5 folds of series",
    baselines={"ridge": 0.589, "signed_sum": 0.59},
    ceiling=0.78,
    audit="Verdict: OK. Labels and photos belong together",
)
CALIBRATION = Calibration(
    slope=0.83,
    slope_low=0.7,
    slope_high=0.95,
    pick_slope=0.9,
    log_loss=0.66,
    num_pairs=2000,
    num_series=700,
    keep_gap=1.25,
    keep_size=2.4,
    keep_series=700,
    source="out-of-fold pairs",
)
RECIPE = Recipe("image-quality numbers", {"numbers": "default"}, {"iqa": "default"})


def saved(folder: Path, card: ModelCard) -> Path:
    """A linear model of two columns."""
    raw_ND = np.arange(8, dtype=np.float32).reshape(4, 2)
    params = {"params": {"kernel_0": np.ones((1, 2), np.float32)}}
    weights = InitialWeights(params, fit_scaling(raw_ND, np.arange(4)))
    seen = {"train": frozenset(["p", "q"]), "val": frozenset[str]()}
    columns: dict[str, tuple[str, ...]] = {"iqa": ("sharpness", "exposure")}
    save_model(folder, Model(card, columns, (weights,), SINGLE, seen), raw_ND)
    return folder


def linear_card(**changes: Any) -> ModelCard:
    return card_of(experiment("e", mlp_hidden_dims=(), blocks=("iqa",)), **changes)


def facts(card: ModelCard) -> dict[str, Any]:
    """A card whose NaNs are equal to each other."""
    return {
        key: "NaN" if isinstance(value, float) and math.isnan(value) else value
        for part in (card, card.calibration, card.evidence)
        for key, value in vars(part).items()
        if not dataclasses.is_dataclass(value) or key == "experiment"
    }


@pytest.mark.parametrize(
    "card",
    [
        linear_card(),
        linear_card(
            fold=None,
            seeds=(0, 1, 2),
            epochs=(4, 7, 5),
            calibration=CALIBRATION,
            evidence=EVIDENCE,
            caveats=["SIMULATED data"],
            recipes={"iqa": RECIPE},
        ),
        linear_card(seeds=(), epochs=(), val_accuracy=math.nan, calibration=Calibration(slope=0.0)),
    ],
)
def test_a_card_comes_back_as_it_was(tmp_path: Path, card: ModelCard) -> None:
    loaded = load_model(saved(tmp_path / "m", card)).card
    assert facts(loaded) == facts(card)
    assert "NaN" not in (tmp_path / "m" / "model.json").read_text()


def test_what_is_unknown_is_null_and_an_open_gap_stays_open(tmp_path: Path) -> None:
    card = linear_card(val_accuracy=math.nan, calibration=Calibration(slope=math.nan))
    loaded = load_model(saved(tmp_path / "m", card)).card
    record = json.loads((tmp_path / "m" / "model.json").read_text())["card"]
    assert record["val_accuracy"] is None
    assert record["calibration"]["slope"] is None
    assert math.isnan(loaded.val_accuracy)
    assert math.isnan(loaded.calibration.slope)
    assert loaded.calibration.keep_gap == math.inf


def test_a_baseline_is_saved_as_a_linear_model(tmp_path: Path) -> None:
    """Its experiment has a name, blocks and no hidden layers; the rest are defaults."""
    e = dataclasses.replace(
        default_experiment("signed_sum"), blocks=("iqa",), mlp_hidden_dims=(), l2_blocks=()
    )
    card = card_of(e, fold=None, seeds=(), epochs=(), val_accuracy=math.nan)
    loaded = load_model(saved(tmp_path / "m", card))
    assert loaded.card.experiment == e
    low, high = loaded.score_rows(np.array([[0, 1], [4, 5]], np.float32))
    assert high > low


def test_a_value_that_a_newer_jaxrank_leaves_out_is_its_default(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", linear_card(evidence=EVIDENCE))
    record = json.loads((folder / "model.json").read_text())
    del record["card"]["evidence"]["ceiling"]
    record["card"]["evidence"]["split"] = "x"
    for change, is_sound in (({}, True), ({"new": 1}, False)):
        evidence = record["card"]["evidence"] | change
        card = record["card"] | {"evidence": evidence}
        (folder / "model.json").write_text(json.dumps(record | {"card": card}))
        seal.write_seal(folder, seal.checksums(folder))
        if is_sound:
            loaded = load_model(folder).card.evidence
            assert (loaded.split, str(loaded.ceiling)) == ("x", "nan")
        else:
            with pytest.raises(UserError, match="not a model folder"):
                load_model(folder)


def test_the_final_model_of_a_search_is_found(tmp_path: Path) -> None:
    assert "EXPERIMENT/model and as final" in refusal(tmp_path)
    (tmp_path / "e").mkdir()
    saved(tmp_path / "final", linear_card(fold=None))
    assert load_model(tmp_path).card.fold is None
    saved(tmp_path / "e" / "model", linear_card(fold=3))
    assert load_model(tmp_path / "e" / "model").card.fold == 3
    assert "did you mean" in refusal(tmp_path / "e")


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load_model(folder)
    return str(error.value)


def test_the_readme_says_what_is_known(tmp_path: Path) -> None:
    card = linear_card(
        fold=None,
        seeds=(0, 1),
        epochs=(4, 7),
        calibration=CALIBRATION,
        evidence=EVIDENCE,
        caveats=["SIMULATED data"],
        recipes={"iqa": RECIPE},
    )
    text = (saved(tmp_path / "m", card) / "README.md").read_text()
    for words in (
        "Trained on 7,152 pairs of 2,341 series (5,953 photos).",
        "Split: 5 folds of series.",
        "Seeds (and epochs): 0 (4), 1 (7).",
        "| this configuration | 61.2% | 58.0% to 64.0% |",
        "| ridge | 58.9% |  |",
        "| ceiling | 78.0% |  |",
        "Measured on test pairs of 5 folds, by the folds' models of the same configuration.",
        "0.83 (95% interval 0.7 to 0.95) times score(a) - score(b), fitted to out-of-fold pairs",
        "Log loss 0.660 on pairs that fitted nothing; below chance, 0.693.",
        "Photos at most 1.25 below the highest score of their series: at least 90% of series",
        "Verdict: OK. Labels and photos belong together.",
        "- SIMULATED data\n",
        "2 columns, sharpness to exposure; made of photos by image-quality numbers (jaxrank "
        "extract --blocks=iqa --iqa=default).",
        "s = kernel_0 @ h",
        "jaxrank.load_model",
        "scorer.load",
    ):
        assert words in text, words
    assert "unknown" not in text.lower()
    assert re.search(r"\bnan\b", text, re.IGNORECASE) is None


def test_the_readme_says_what_is_not_known(tmp_path: Path) -> None:
    card = linear_card(val_accuracy=0.6, calibration=Calibration(slope=math.nan))
    text = (saved(tmp_path / "m", card) / "README.md").read_text()
    assert text.count("nknown: ") == 3
    assert "its accuracy is 60.0%: an optimistic figure" in text
    assert re.search(r"\bnan\b", text, re.IGNORECASE) is None
    chance = Calibration(slope=0.1, log_loss=0.872)
    text = (saved(tmp_path / "w", linear_card(calibration=chance)) / "README.md").read_text()
    assert "Log loss 0.872 on pairs that fitted nothing; not below chance, 0.693." in text


def test_text_from_data_stays_text_in_the_readme(tmp_path: Path) -> None:
    hostile = "<img src=x>\n# Title | [link](http://x) \x1b[31m"
    card = linear_card(caveats=[hostile], evidence=dataclasses.replace(EVIDENCE, audit=hostile))
    text = (saved(tmp_path / "m", card) / "README.md").read_text()
    assert "<img" not in text
    assert "\n# Title" not in text
    assert "\x1b" not in text
    assert " [link]" not in text
    assert load_model(tmp_path / "m").card.caveats == [hostile]


def test_the_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the import of an exported file."""
    folder = saved(tmp_path / "m", linear_card(recipes={}))
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 10
    from jaxrank.data.feature_store import Block, write_block
    from jaxrank.inference.export import export_numpy

    block = Block(["a", "b"], ["sharpness", "exposure"], np.array([[1, 2], [3, 4]], np.float32))
    write_block(tmp_path / "store", "iqa", block)
    (tmp_path / "store" / "series.csv").write_text("series_id,image\n1,a\n1,b\n")
    export_numpy(folder, tmp_path / "scorer_of_readme.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    values: dict[str, Any] = {"rows": block.values}
    code = code.replace("FOLDER", "m").replace("import scorer", "import scorer_of_readme as scorer")
    lines = [line for line in code.splitlines() if line and not line.startswith("#")]
    exec("\n".join(lines[:-1]), values)
    assert values["picks"]["pick"].tolist() == [True, False]
    by_jaxrank = values["scores"].to_numpy()
    exec(lines[-1], values)
    np.testing.assert_allclose(values["scores"], by_jaxrank, atol=1e-6)
