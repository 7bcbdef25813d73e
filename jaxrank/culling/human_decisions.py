"""Decisions of people: stars and flags on the photos, and changes in a contact sheet.

A contact sheet takes precedence over stars and flags, and both over the program's decisions.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from jaxrank.culling.changes import CHANGEABLE
from jaxrank.culling.decisions import ALTERNATE, BURST, PICK, REJECT, least_stars
from jaxrank.culling.xmp import Marks


def with_marks(table: pd.DataFrame, marks: Mapping[str, Marks]) -> pd.DataFrame:
    """Applies a person's stars and flags to the decisions, and adds `rating` and `marked`.

    In each burst:

    - Photos with the highest mark are picks; a pick flag is above all stars. Few stars pick only if
      the person never gives more, or has rated every photo of the burst; see `least_stars`.
    - Other photos with stars or a pick flag are alternates.
    - Photos with the rating -1 or a reject flag are rejected.
    - The program's pick becomes an alternate if a person has a pick.
    - All other photos keep their decisions.

    A photo with both stars and a reject flag counts as liked: which mark came later is unknown,
    and rejecting it would do more harm.

    Args:
      table: table with `path`, `series`, `kind` and `decision`, one row per photo.
      marks: marks of a person, by path.
    """
    own = [marks.get(path) for path in table["path"]]
    liked = pd.Series([_liking(found) for found in own], table.index)
    rejected = pd.Series([_is_rejected(found) for found in own], table.index) & (liked == 0)
    in_burst = table["kind"] == BURST
    by_series = table["series"]
    best = liked.where(in_burst, 0).groupby(by_series).transform("max")
    all_rated = ((liked > 0) | rejected).groupby(by_series).transform("all")
    least = least_stars(found.rating for found in marks.values())
    decides = in_burst & (best > 0) & ((best >= least) | all_rated)
    decision = table["decision"].mask(decides & table["decision"].eq(PICK), ALTERNATE)
    decision = decision.mask(decides & (liked > 0), ALTERNATE)
    decision = decision.mask(decides & (liked > 0) & (liked == best), PICK)
    ratings = [found.rating if found is not None and found.rating else pd.NA for found in own]
    return table.assign(
        decision=decision.mask(in_burst & rejected, REJECT),
        rating=pd.array(ratings, "Int64"),
        marked=(liked > 0) | rejected,
    )


def _liking(marks: Marks | None) -> int:
    """Strength of a person's liking: stars, plus 10 for a pick flag; 0 without either."""
    if marks is None:
        return 0
    return max(marks.rating or 0, 0) + (10 if marks.pick == "pick" else 0)


def _is_rejected(marks: Marks | None) -> bool:
    return marks is not None and (marks.rating == -1 or marks.pick == "reject")


def with_changes(table: pd.DataFrame, decisions: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Applies a person's decisions in a contact sheet, and adds `changed`: the columns changed.

    Where a person picks a photo in the sheet, the program's own pick becomes an alternate.

    Args:
      table: table with `path`, `series`, `decision`, `rating` and `marked`.
      decisions: the person's decisions and ratings, by path; see `changes.read_changes`.
    """
    changed = [
        " ".join(name for name in CHANGEABLE if name in decisions.get(path, {}))
        for path in table["path"]
    ]
    table = table.assign(changed=pd.Series(changed, table.index, dtype=object))
    for column in CHANGEABLE:
        own = table["path"].map({path: row.get(column) for path, row in decisions.items()})
        table[column] = own.where(own.notna(), table[column])
    picked = table["path"].map(lambda path: decisions.get(path, {}).get("decision") == PICK)
    in_picked = picked.astype(bool).groupby(table["series"]).transform("any")
    by_program = table["decision"].eq(PICK) & ~decided_by_person(table)
    table["decision"] = table["decision"].mask(in_picked & by_program, ALTERNATE)
    return table.astype({"rating": "Int64"})


def decided_by_person(table: pd.DataFrame) -> pd.Series:
    """Whether a person's mark or change decides on each photo; a changed rating does not."""
    return table["marked"] | table["changed"].str.contains("decision")
