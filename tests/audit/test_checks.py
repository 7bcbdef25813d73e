"""The audit as a user meets it: the command, the banner of a search, and its files."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_data import make_data

import jaxrank
from jaxrank.audit import case, checks, permutation_test
from jaxrank.cli import main
from jaxrank.data import feature_store, splits
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences, read_all_votes
from jaxrank.errors import AuditFailed, UserError

SmallData = tuple[Preferences, dict[str, Block]]
QUICK: dict[str, Any] = {"experiments": ["iqa_only"], "overrides": {"max_epochs": 1}}


def large_data(linked: bool) -> SmallData:
    """Enough pairs for a verdict: 1,200 series of three photos, whose preferences follow a number
    in the store, or a number that is not there."""
    rng = np.random.default_rng(5)
    names = np.array([f"{s}-{i}.jpg" for s in range(1200) for i in range(3)])
    values = rng.standard_normal((len(names), 4)).astype(np.float32)
    # A number that orders all pairs would be too good to be true.
    worth = rng.standard_normal(len(names)) + (values[:, 0] if linked else 0)
    a, b = (np.concatenate([np.arange(0, 3600, 3) + k for k in side]) for side in
            ((0, 0, 1), (1, 2, 2)))  # fmt: skip
    preference = 1 / (1 + np.exp(worth[b] - worth[a]))
    table = pd.DataFrame(
        {
            "series_id": [name.split("-")[0] for name in names[a]],
            "image_a": names[a],
            "image_b": names[b],
            "preference": preference.round(3),
        }
    )
    block = Block(list(names), ["sharpness", "exposure", "colorfulness", "contrast"], values)
    return Preferences(table), {"iqa": block}


@pytest.fixture(scope="module")
def linked_search(tmp_path_factory: pytest.TempPathFactory) -> jaxrank.SearchResult:
    """Of labels that belong to their photos."""
    workdir = tmp_path_factory.mktemp("linked") / "w"
    return jaxrank.search(*large_data(linked=True), workdir=workdir, **QUICK)


@pytest.fixture(scope="module")
def unlinked_search(tmp_path_factory: pytest.TempPathFactory) -> jaxrank.SearchResult:
    """Of labels that belong to other photos, in a folder where they were refused before."""
    data, workdir = large_data(linked=False), tmp_path_factory.mktemp("unlinked") / "w"
    with pytest.raises(AuditFailed, match=r"No link found.*--audit=warn"):
        jaxrank.search(*data, workdir=workdir, audit="refuse", **QUICK)
    assert not (workdir / "plan.json").exists()
    return jaxrank.search(*data, workdir=workdir, audit="warn", **QUICK)


@pytest.mark.parametrize("linked", [True, False])
def test_every_search_says_whether_its_labels_belong_to_its_photos(
    tmp_path: Path, request: pytest.FixtureRequest, linked: bool
) -> None:
    data = large_data(linked)
    result = request.getfixturevalue("linked_search" if linked else "unlinked_search")
    shutil.copytree(result.workdir, tmp_path / "w")
    log = (tmp_path / "w" / "training.log").read_text()
    found = json.loads((tmp_path / "w" / "audit.json").read_text())
    assert found["verdict"] == (case.PASS if linked else case.FAIL)
    label = "AUDIT: no link found between labels and photos"
    assert ("AUDIT: FAIL" in log) != linked
    assert (label in result.caveats) != linked
    assert result.summary["notes"].str.contains(label).all() != linked
    model = jaxrank.load_model(tmp_path / "w" / "iqa_only" / "model")
    assert (label in model.card.caveats) != linked
    results = json.loads((tmp_path / "w" / "iqa_only" / "test_results.json").read_text())
    assert (label in results["caveats"]) != linked
    # Going on with it reads what was found, and says the same.
    again = jaxrank.search(*data, workdir=tmp_path / "w", extend=True, num_seeds=2, **QUICK)
    assert again.caveats == result.caveats


def test_a_folder_where_labels_were_refused_can_be_used(
    unlinked_search: jaxrank.SearchResult,
) -> None:
    assert len(unlinked_search.trials) == 3


def test_a_search_may_not_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = large_data(linked=False)
    monkeypatch.setattr(checks, "audit", lambda *_, **__: pytest.fail("it looked"))
    result = jaxrank.search(*data, workdir=tmp_path / "w", audit="off", **QUICK)
    assert not (tmp_path / "w" / "audit.json").exists()
    assert not result.caveats


def test_few_pairs_warn_and_never_fail(
    tmp_path: Path, small_files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--pairs={small_files[0]}", f"--features={small_files[1]}"]
    assert main(["launch.py", "audit", *words, f"--workdir={tmp_path / 'a'}"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(("AUDIT: WARN", "AUDIT: PASS"))
    assert (tmp_path / "a" / "audit.txt").read_text() in out
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"audit.json", "audit.txt"}


def test_the_real_tables(
    photo_triage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    main(["launch.py", "features", f"--from_csv={photo_triage / 'iqa.csv'}", "--block=iqa",
          f"--features={store}"])  # fmt: skip
    expected = {
        "pairs.csv": (0, "AUDIT: PASS"),
        "votes.csv": (3, "No link found: either the photo numbers are wrong or"),
    }
    failing = {
        "pairs.csv": {},
        "votes.csv": {"permutation_test": case.FAIL, "photo_order": case.WARN},
    }
    for name, (status, words) in expected.items():
        capsys.readouterr()
        given = [f"--pairs={photo_triage / name}", f"--features={store}"]
        folder = tmp_path / name
        assert main(["launch.py", "audit", *given, f"--workdir={folder}"]) == status
        assert words in capsys.readouterr().out
        verdicts = json.loads((folder / "audit.json").read_text())["verdicts"]
        assert {c: v for c, v in verdicts.items() if v != case.PASS} == failing[name]
    reference = f"--reference={photo_triage / 'pairs.csv'}"
    named = ["launch.py", "audit", *given, reference, f"--workdir={tmp_path / 'named'}"]
    assert main(named) == 3
    out = capsys.readouterr().out
    assert "The photo numbers are permuted within the series" in out
    found = json.loads((tmp_path / "named" / "audit.json").read_text())["facts"]["reference"]
    assert 0.49 <= found["direction"]["value"] <= 0.51
    assert found["direction"]["num_pairs"] == 7810
    assert found["margin_agreement"] >= 0.99
    assert found["margin_chance"] < 0.1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--audit_seconds=0"], "--audit_seconds=0.0: must be above 0"),
        (["--reference="], "--reference is empty"),
        (["--reference=nowhere.csv"], "nowhere.csv"),
        (["--min_agreement=0.9"], "--min_agreement is for vote tables"),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path,
    small_files: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    words: str,
) -> None:
    given = [f"--pairs={small_files[0]}", f"--features={small_files[1]}", *flags]
    assert main(["launch.py", "audit", *given, f"--workdir={tmp_path / 'a'}"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "a").exists()


def found_of(preferences: Preferences, store: dict[str, Block]) -> checks.Audit:
    dataset = align(preferences, store)
    parts = splits.split_pairs(dataset.table)
    return checks.audit(dataset.table, SplitDataset(dataset=dataset, splits_FM=parts))


def test_the_page_lists_the_verdict_of_each_check() -> None:
    preferences, store = large_data(linked=True)
    spoilt = np.where(np.arange(3600)[:, None] % 2, store["iqa"].values, 0)
    found = found_of(preferences, {"iqa": store["iqa"]._replace(values=spoilt)})
    assert found.verdict == case.WARN
    assert found.caveat == "AUDIT: photos that share one vector"
    verdicts = found.page().split("Checks:\n")[1].splitlines()
    assert verdicts == [
        "- permutation test: pass",
        "- leakage: pass",
        "- duplicates: pass",
        "- near duplicates: pass",
        "- target leakage: pass",
        "- photo order: pass",
        "- shared vectors: warn",
        "- mixed scales: pass",
    ]


def test_what_is_found_beside_the_headline_is_evidence() -> None:
    preferences, store = large_data(linked=False)
    spoilt = np.where(np.arange(3600)[:, None] % 2, store["iqa"].values, 0)
    found = found_of(preferences, {"iqa": store["iqa"]._replace(values=spoilt)})
    assert found.verdict == case.FAIL
    assert found.headline.startswith("No link found")
    (line,) = [line for line in found.evidence if "a vector of zeros" in line]
    assert line.startswith("1,800 photos (50%)")
    assert "extract them again" in line
    assert not any(found.headline in line for line in found.evidence)


def test_too_few_pairs_are_unverified_beside_every_result() -> None:
    found = found_of(*make_data(20))
    assert found.verdict == case.WARN
    assert found.caveat == "AUDIT: unverified (too few pairs to tell)"
    assert found.verdicts["photo_order"] == case.UNVERIFIED
    assert "- photo order: unverified" in found.page()


def test_a_damaged_audit_is_made_again(tmp_path: Path) -> None:
    assert checks.read_audit(tmp_path) is None
    data = large_data(linked=True)
    dataset = align(*data)
    parts = splits.split_pairs(dataset.table)
    found = checks.audit(dataset.table, SplitDataset(dataset=dataset, splits_FM=parts))
    checks.write_audit(tmp_path, found)
    again = checks.read_audit(tmp_path)
    assert again is not None
    assert again[:5] == found[:5]
    path = tmp_path / checks.AUDIT_JSON
    whole = path.read_text()
    strange = json.dumps(json.loads(whole) | {"verdicts": ["pass"]})
    for text in ("", "{}", whole[:-9], whole.replace('"pass"', '"fine"'), strange):
        path.write_text(text)
        assert checks.read_audit(tmp_path) is None


def test_all_votes_are_read_of_any_table(tmp_path: Path) -> None:
    votes = tmp_path / "votes.csv"
    votes.write_text(
        "series_id,compareFile1,compareFile2,LEFT,RIGHT\n1,1-1.JPG,1-2.JPG,1,0\n"
        "1,1-1.JPG,1-3.JPG,2,3\n"
    )
    assert len(read_all_votes(votes).table) == 2
    plain = tmp_path / "pairs.csv"
    plain.write_text("series_id,image_a,image_b,preference\n1,a,b,0.5\n")
    assert len(read_all_votes(plain, "{series}-{number}").table) == 1


@pytest.mark.parametrize("columns", [20, 4])
def test_any_names_and_numbers_of_columns_are_looked_at(columns: int) -> None:
    table, store = large_data(linked=True)
    block = store["iqa"]
    values = np.tile(block.values, (1, 5))[:, :columns]
    names = [*block.columns[:3], *(f"more_{i}" for i in range(columns - 4)), permutation_test.RIDGE]
    assert len(names) == columns
    dataset = align(table, {"iqa": Block(block.photos, names, values)})
    found = permutation_test.run_permutation_test(dataset)
    assert found.verdict == permutation_test.LINKED
    assert found.signed_sum_z is not None
    assert found.signed_sum_z > 4
    against = dataset._replace(preference_M=1 - dataset.preference_M)
    assert permutation_test.run_permutation_test(against).verdict == permutation_test.INVERTED


def test_features_that_never_differ_are_called_so(tmp_path: Path) -> None:
    table, store = large_data(linked=True)
    same = store["iqa"]._replace(values=np.ones_like(store["iqa"].values))
    result = jaxrank.search(table, {"iqa": same}, workdir=tmp_path / "w", **QUICK)
    assert "AUDIT: unverified (no feature differs within a series)" in result.caveats


def test_a_reference_that_agrees_puts_the_blame_on_the_features() -> None:
    table, store = large_data(linked=False)
    dataset = align(table, store)
    parts = splits.split_pairs(dataset.table)
    found = checks.audit(
        table.table,
        SplitDataset(dataset=dataset, splits_FM=parts),
        compared=(table.table, table.table),
    )
    assert found.verdict == case.FAIL
    assert "though the pairs agree with the reference" in found.headline
    # Computed preferences have no circular triad: that says nothing of voters.
    assert "voters agree" not in found.headline


def test_a_series_alone_is_too_few_pairs(tmp_path: Path) -> None:
    table, store = large_data(linked=True)
    few = tmp_path / "few.csv"
    table.table.head(1).to_csv(few, index=False)
    feature_store.write_block(tmp_path / "store", "iqa", store["iqa"])
    words = [f"--pairs={few}", f"--features={tmp_path / 'store'}", f"--workdir={tmp_path / 'a'}"]
    assert main(["launch.py", "audit", *words]) == 0


def test_an_audit_that_breaks_off_does_not_end_the_search(
    tmp_path: Path, small_data: SmallData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(checks, "audit", broken)
    result = jaxrank.search(*small_data, workdir=tmp_path / "w", **QUICK)
    assert result.caveats == ["AUDIT: audit crashed"]
    assert "planted" in (tmp_path / "w" / "training.log").read_text()
    assert not (tmp_path / "w" / "audit.json").exists()


def test_not_looking_again_does_not_hide_what_was_found(
    unlinked_search: jaxrank.SearchResult, tmp_path: Path
) -> None:
    workdir = shutil.copytree(unlinked_search.workdir, tmp_path / "w")
    again = jaxrank.search(
        *large_data(linked=False), workdir=workdir, extend=True, num_seeds=2, audit="off", **QUICK
    )
    assert unlinked_search.caveats == again.caveats != []


def test_names_of_columns_are_no_formulae_and_no_escapes(tmp_path: Path) -> None:
    table, store = large_data(linked=True)
    block = store["iqa"]
    odd = block._replace(columns=["a$_$b", "c\x1b[31m", "=1+1", "exposure"])
    result = jaxrank.search(table, {"iqa": odd}, workdir=tmp_path / "w", **QUICK)
    assert "\x1b" not in (tmp_path / "w" / "audit.txt").read_text()
    assert "a$_$b" in set(result.summary["experiment_name"])


def test_series_on_two_sides_of_a_split_warn() -> None:
    preferences, store = large_data(linked=True)
    dataset = align(preferences, store)
    table = preferences.table
    series, pair = (
        checks.audit(
            table, SplitDataset(dataset=dataset, splits_FM=splits.split_pairs(table, split))
        ).label
        for split in (splits.SERIES, splits.RANDOM)
    )
    assert series == ""
    assert pair in ("series on two sides of the split", "the split leaks")


def test_an_audit_out_of_time_begins_no_further_check_and_is_done_again(tmp_path: Path) -> None:
    checked, store = large_data(linked=True)
    dataset = align(checked, store)
    data = SplitDataset(dataset=dataset, splits_FM=splits.split_pairs(checked.table))
    found = checks.audit(checked.table, data, max_seconds=1e-9)
    assert found.verdict == case.WARN
    late = ["reference", *list(checks.CHECKS)[3:]]
    assert [name for name, facts in found.facts.items() if facts is None] == late
    assert set(found.verdicts.values()) == {case.UNVERIFIED}
    assert found.label == "unverified (9 of 9 checks ran out of time)"
    assert found.headline.startswith(
        "Not finished: 9 of 9 checks ran out of time (permutation test, leakage, duplicates, "
    )
    assert found.headline.endswith(", mixed scales, feature quality).")
    assert found.advice == "Raise --audit_seconds (now 1e-09)."
    assert not any("out of time" in line for line in found.evidence if "Link" not in line)
    checks.write_audit(tmp_path, found)
    again = checks.read_audit(tmp_path)
    assert again is not None
    assert not again.finished


def test_the_model_card_names_an_audit_that_is_not_finished(tmp_path: Path) -> None:
    data, workdir = large_data(linked=True), tmp_path / "w"
    jaxrank.search(*data, workdir=workdir, audit_seconds=1e-9, **QUICK)
    card = (workdir / "final" / "README.md").read_text()
    assert "## Audit\n\nwarn: Not finished: 9 of 9 checks ran out of time (" in card
    assert "- AUDIT: unverified (9 of 9 checks ran out of time)" in card


def test_the_audit_counts_pairs_without_features_and_those_of_an_official_split() -> None:
    pairs, store = make_data(20)
    number_M = pairs.table["series_id"].astype(int)
    table = pairs.table.assign(official_split=np.where(number_M < 15, "train", "val"))
    block = store["iqa"]
    kept = [i for i, p in enumerate(block.photos) if int(p[1:].split("-")[0]) < 16]
    iqa = Block([block.photos[i] for i in kept], block.columns, block.values[kept])
    found = jaxrank.audit_data(Preferences(table), {"iqa": iqa}, max_seconds=1)
    with_features, official = int((number_M == 15).sum()), int((number_M >= 15).sum())
    left_out = f"{int((number_M >= 16).sum()):,} of {len(table):,} pairs left out"
    assert any(line.startswith(f"Features: {left_out}") for line in found.evidence)
    expected = f"Official split: {with_features} of {official} test pairs have features."
    assert expected in found.evidence
    three = np.select([number_M < 12, number_M < 15], ["train", "val"], "test")
    found = jaxrank.audit_data(
        Preferences(table.assign(official_split=three)), {"iqa": iqa}, max_seconds=1
    )
    own = int(((number_M >= 12) & (number_M < 15)).sum())
    assert (
        f"Official split: {with_features} of {official} test pairs and {own} of {own} validation "
        "pairs have features."
    ) in found.evidence


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (["train", "dev", "test"], "'dev', not train, val or test"),
        (["train", "val"], "has pairs in train and in val"),
    ],
)
def test_the_audit_refuses_an_official_split_that_a_search_refuses(
    sides: list[str], message: str
) -> None:
    pairs, store = make_data(20)
    number_M = pairs.table["series_id"].astype(int)
    if len(sides) == 2:
        number_M = pd.Series(np.arange(len(number_M)))
    table = pairs.table.assign(official_split=np.array(sides)[number_M % len(sides)])
    with pytest.raises(UserError, match=message):
        jaxrank.audit_data(Preferences(table), store, max_seconds=1)


@pytest.mark.parametrize(
    ("side", "note"),
    [("train", "every pair is train; none tests"), ("val", "{0} of {0} test pairs have features")],
)
def test_one_part_of_an_official_split_is_audited(side: str, note: str) -> None:
    pairs, store = make_data(20)
    table = pairs.table.assign(official_split=side)
    found = jaxrank.audit_data(Preferences(table), store, max_seconds=1)
    assert f"Official split: {note.format(len(table))}." in found.evidence
