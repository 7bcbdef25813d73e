"""Sentences leave out what is not known, and never print nan or inf."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxrank.audit import leakage, permutation_test, reference, transitivity
from jaxrank.audit.leakage import Leaks, PermutedAccuracy, SharedSeries
from jaxrank.audit.permutation_test import OUT_OF_TIME, Link
from jaxrank.audit.transitivity import Triads
from jaxrank.evaluation import noise_ceiling
from jaxrank.evaluation.noise_ceiling import without_shares
from jaxrank.evaluation.reliability import Reliability
from jaxrank.reporting import agreement, table_notes
from jaxrank.reporting.summary import percent

NAN, INF = float("nan"), float("inf")


def strengths(**values: float) -> pd.DataFrame:
    row: dict[str, Any] = {
        "agreement": 0.6,
        "agreement_ceiling": 0.8,
        "way_to_ceiling": 0.3,
        "accuracy": 0.7,
    }
    names = (noise_ceiling.ALL, noise_ceiling.STRONG_PAIRS)
    return pd.DataFrame([{"strength": name} | row | values for name in names])


def reliability(**values: float) -> Reliability:
    numbers = {"log_loss": 0.6, "entropy": 0.5, "calibration_error": 0.1,
               "calibration_error_by_chance": 0.1} | values  # fmt: skip
    empty = np.zeros(0)
    return Reliability(
        num_pairs=9, num_series=9, count_C=empty, confidence_C=empty, agreement_C=empty,
        error_C=empty, **numbers,
    )  # fmt: skip


def agreed(table: dict[str, float], measured: dict[str, float]) -> list[str]:
    return agreement._notes("e", strengths(**table), reliability(**measured))


def control(z: float, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(table_notes, "control_z", lambda *_: (1.0, z))
    return table_notes._control([], None)  # type: ignore[arg-type]


def out_of_time() -> list[str]:
    look = permutation_test.TestStatistic("sharpness", 0.6, NAN, NAN, NAN, True, 0.01)
    return permutation_test._evidence(
        Link([look], 90, 30, 0, NAN, NAN, 0.05, None, OUT_OF_TIME, 1.0)
    )


def leaking() -> list[str]:
    seen = PermutedAccuracy(90, 30, 1.0, 0.0, INF, True)
    return leakage._evidence(Leaks(SharedSeries(0, 0.0, ()), seen))


def without_direction() -> list[str]:
    photos = [[f"s{s}-{i}.jpg" for i in range(3)] for s in range(3)]
    rows = [(str(s), names[0], names[1], 0.5) for s, names in enumerate(photos)]
    table = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    return [reference.compare(table, table).sentence]


@pytest.mark.parametrize(
    ("lines", "pattern"),
    [
        (lambda _: agreed({"way_to_ceiling": NAN}, {}), "80.0% is possible. On pairs"),
        (lambda _: agreed({"accuracy": NAN}, {}), "30% of the possible improvement over chance.$"),
        (lambda _: agreed({}, {"log_loss": NAN}), "30% of the possible"),
        (lambda _: agreed({}, {"calibration_error_by_chance": NAN}), "10.0 points.$"),
        (lambda m: control(INF, m), "test accuracy of 100.0% .z beyond any limit"),
        (lambda m: control(-INF, m), "z beyond any limit"),
        (lambda _: out_of_time(), "interval: sharpness 60.0% ± 2.0.$"),
        (lambda _: leaking(), "100.0% ± 0.0 of 90 held-out pairs .z beyond any limit"),
        (
            lambda _: transitivity._evidence(Triads(8, 3, 0.1, NAN, None)),
            "Voters: 10.0% of 8 triples",
        ),
        (lambda _: without_direction(), "No pair has a direction in both tables"),
    ],
)
def test_what_is_not_known_is_left_out(
    lines: Callable[[pytest.MonkeyPatch], list[str]], pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = lines(monkeypatch)
    assert any(re.search(pattern, line) for line in said), said
    assert not re.search(r"\b(nan|inf)", " ".join(said))


def test_no_share_is_no_percentage() -> None:
    assert [percent(share) for share in (0.5, NAN, None)] == ["50.0%", "", ""]


@pytest.mark.parametrize(
    ("mean", "low", "high", "words"),
    [
        (0.451, 0.43, 0.47, "wins 45.1% of the test pairs (43.0 to 47.0%); 50% is expected. "),
        (0.55, 0.51, 0.59, "wins 55.0% of the test pairs (51.0 to 59.0%)"),
        (0.52, 0.49, 0.55, ""),
        (0.60, NAN, NAN, ""),  # too few series for an interval
    ],
)
def test_position_is_reported_where_its_interval_leaves_chance_out(
    mean: float, low: float, high: float, words: str
) -> None:
    notes = table_notes.position_notes(mean, low, high)
    assert len(notes) == bool(words)
    assert words in "".join(notes)


@pytest.mark.parametrize(
    ("mean", "low", "high", "words"),
    [
        (0.55, 0.51, 0.59, r"If this is not chance \(p = 0.01\), people favour the first"),
        (0.45, 0.41, 0.49, r"If this is not chance \(p = 0.01\), .* lists winners second"),
        (0.53, 0.501, 0.559, r"\(p = 0.04\)"),
        (0.579, 0.54, 0.618, r"\(p = 7e-05\)"),
        (0.90, 0.62, 1.00, r"If this is not chance \(p = 0.005\)"),  # few series: cut off at 1
        (0.10, 0.00, 0.38, r"If this is not chance \(p = 0.005\)"),
        (0.60, 0.57, 0.63, "This is not chance: people favour the first place"),
        (1.00, 1.00, 1.00, "This is not chance: .* winners first more often. See how the pairs"),
    ],
)
def test_the_note_on_position_is_as_strong_as_its_evidence(
    mean: float, low: float, high: float, words: str
) -> None:
    (note,) = table_notes.position_notes(mean, low, high)
    assert re.search(words, note)
    assert note.endswith("if the first photo is always the earlier one.")


@pytest.mark.parametrize("votes", [["many", ""], ["3", "4"]])
def test_a_column_of_text_called_votes_is_no_number_of_votes(votes: list[str]) -> None:
    names = {"series_id": ["1", "1"], "image_a": ["a", "b"], "image_b": ["b", "c"]}
    table = pd.DataFrame(names | {"preference": [0.75, 0.25], "votes": votes})
    assert "few_votes" not in agreement._ceilings(table)
    counted = agreement._ceilings(table.assign(votes=[4, 8]))
    assert "few_votes" in counted


def test_preferences_without_shares_have_no_ceiling_and_no_floor() -> None:
    assert without_shares(np.array([0.0, 1.0, 0.5]))
    assert not without_shares(np.array([0.0, 1.0, 0.75]))
    first, second = agreement._notes("e", None, reliability())
    assert first.startswith("No ceiling: every preference is 0, 1 or a tie")
    assert "floor" not in second
    assert "floor" in agreed({}, {})[1]
