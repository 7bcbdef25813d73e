"""A program of a user of the package, for type checkers only: `make lint` checks it against the
sources, `make dist` against the wheel.

Lines that must be refused say so: an ignore that is not needed is an error, too.
"""

from pathlib import Path
from typing import assert_type

import jaxrank


def search_and_apply() -> None:
    store = jaxrank.open_feature_store("features")
    result = jaxrank.search("pairs.csv", store, folds=5, num_seeds=2, experiments=["linear"])
    assert_type(result, jaxrank.SearchResult)
    assert_type(result.notes, list[str])
    assert_type(result.workdir, Path)
    jaxrank.search(num_seed=3)  # type: ignore[call-arg]
    jaxrank.search(num_seeds="3")  # type: ignore[arg-type]
    jaxrank.search(save_budget="much")  # type: ignore[arg-type]

    model = jaxrank.load_model(result.workdir / "linear" / "model")
    assert_type(model, jaxrank.Model)
    measured = jaxrank.evaluate_model(model, "pairs.csv", store, min_reviewers=3)
    assert_type(measured, jaxrank.Evaluation)
    assert_type(measured.notes, list[str])
    jaxrank.evaluate_model(model, min_reviewers="3")  # type: ignore[arg-type]
    jaxrank.evaluate_model(model, min_reviewer=3)  # type: ignore[call-arg]

    ranked = jaxrank.rank_photos(model, store, "series.csv")
    assert_type(ranked, jaxrank.Ranking)
    assert_type(ranked.notes, list[str])
    jaxrank.rank_photos(model, serie="series.csv")  # type: ignore[call-arg]

    found = jaxrank.audit_data("pairs.csv", store)
    assert_type(found, jaxrank.Audit)
    assert_type(found.notes, list[str])
    assert_type(found.verdict, str)
