"""What the preferences themselves allow: how well anything could agree with the voters.

Of a pair with preference p, m = max(p, 1 - p) is the share of its majority. Nothing agrees with one
vote more often than m, and no log loss is below the entropy of p. Against the direction of the
majority, which is what accuracy counts, the ceiling is 100%: an accuracy is never compared with
the mean of m. Axis letters: M pairs; R judgements, one a pair and trial that tested it.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import betainc, entr, psi

from jaxrank.metrics import pair_hits
from jaxrank.statistics import clustered_error

# A pair of at least this m is strong.
STRONG = 0.7
# The lower ends of five bins of m, each without its upper end but for the last.
STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9)
ALL, STRONG_PAIRS = "all", "strong"
# 0.7 is less than 0.7 in 32 bits, and 1 - p is rounded; shares of few votes lie further apart.
_ROUNDING = 1e-6
# Pairs with more votes than this say nothing about what few votes hide, and their likelihood has as
# many terms.
_MANY_VOTES = 100
# What the fitted concentration of the beta distribution is looked for between, as logarithms:
# nearly all voters of one mind, and nearly all pairs even.
_LOG_CONCENTRATIONS = (np.log(1e-3), np.log(1e3))


class Ceilings(NamedTuple):
    """Ceilings of some pairs, each pair counted alike; NaN where there is no such pair.

    They take every preference for the truth. It stands on few votes, so they are optimistic.

    Attributes:
      num_pairs, num_strong: pairs, and those with m of at least STRONG.
      one_vote, one_vote_strong: the mean of m, the ceiling for agreement with one vote.
      entropy, entropy_strong: in nats, the floor of the log loss against preferences.
      two_voters: how often two voters agree, the mean of p^2 + (1 - p)^2.
      random_top1: how often a photo taken at random is its series' best, the mean of 1/photos.
      num_by_strength: pairs in the bins of m that begin at STRENGTHS.
    """

    num_pairs: int
    num_strong: int
    one_vote: float
    one_vote_strong: float
    entropy: float
    entropy_strong: float
    two_voters: float
    random_top1: float
    num_by_strength: tuple[int, ...]


def ceilings(preference_M: np.ndarray, pair_rows_M2: np.ndarray, series_M: np.ndarray) -> Ceilings:
    """Ceilings of pairs.

    Args:
      preference_M: the share that prefers the first photo.
      pair_rows_M2: numbers of both photos.
      series_M: the number of the series.
    """
    p = preference_M.astype(np.float64)
    m = majority(p)
    strong = is_strong(p)
    entropy = entropy_of(p)
    _, first = np.unique(pair_rows_M2, return_index=True)
    _, sizes = np.unique(series_M[first // 2], return_counts=True)  # two photos a pair
    return Ceilings(
        num_pairs=len(p),
        num_strong=int(strong.sum()),
        one_vote=_mean(m),
        one_vote_strong=_mean(m[strong]),
        entropy=_mean(entropy),
        entropy_strong=_mean(entropy[strong]),
        two_voters=_mean(p**2 + (1 - p) ** 2),
        random_top1=_mean(1 / sizes),
        num_by_strength=tuple(np.bincount(strength_bin(p), minlength=len(STRENGTHS)).tolist()),
    )


def ceilings_of_table(table: pd.DataFrame) -> Ceilings:
    """Ceilings of a pair table, whose photos need no features."""
    rows, _ = pd.factorize(pd.concat([table["image_a"], table["image_b"]]))
    series_M, _ = pd.factorize(table["series_id"])
    return ceilings(table["preference"].to_numpy(np.float64), rows.reshape(2, -1).T, series_M)


def majority(preference_M: np.ndarray) -> np.ndarray:
    """m, the share of the majority."""
    return np.maximum(preference_M, 1 - preference_M)


def is_strong(preference_M: np.ndarray) -> np.ndarray:
    return majority(preference_M) >= STRONG - _ROUNDING


def strength_bin(preference_M: np.ndarray) -> np.ndarray:
    """Which of STRENGTHS a pair's m belongs to, from 0."""
    return np.digitize(majority(preference_M) + _ROUNDING, STRENGTHS[1:])


def entropy_of(preference_M: np.ndarray) -> np.ndarray:
    """Of the vote of one voter, in nats."""
    return entr(preference_M) + entr(1 - preference_M)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


class FewVotes(NamedTuple):
    """Ceilings that allow for few votes a pair; compare with the plug-in ones of the same pairs.

    Attributes:
      num_pairs, num_strong: the pairs with a majority among their votes.
      concentration: a of the beta distribution of the true shares, Beta(a, a).
      one_vote, one_vote_strong, entropy: as in Ceilings, expected given each pair's votes; strong
        is meant of the preferences, not of the true shares.
      any_vote: the same as `one_vote`, but each pair counted by its votes: the ceiling for
        agreement with a vote drawn from all votes.
    """

    num_pairs: int
    num_strong: int
    concentration: float
    one_vote: float
    any_vote: float
    one_vote_strong: float
    entropy: float


def few_votes(preference_M: np.ndarray, votes_M: np.ndarray) -> FewVotes | None:
    """Ceilings corrected for few votes, from the share and the number of votes of each pair.

    Five of five votes do not make a preference of 100%. The true shares are taken to be
    Beta(a, a), alike on both sides because no photo of a pair is the first; the votes of a pair are
    then beta-binomial. Pairs without a majority are dropped, and so is the likelihood of what the
    table leaves out: ties, and majorities below the least that it holds (it may be filtered).

    Args:
      preference_M: the share of a pair's votes for one photo, or that share drawn a little towards
        one half: it is rounded to whole votes.
      votes_M: the number of votes.

    Returns:
      None where the votes say nothing about how far voters agree: single votes, nothing but
      unanimous pairs (others may have been left out), or so many votes that nothing is hidden.
    """
    m, votes = majority(preference_M.astype(np.float64)), votes_M.astype(np.int64)
    ahead = np.round(m * votes).astype(np.int64)
    kept = 2 * ahead > votes
    m, ahead, votes = m[kept], ahead[kept], votes[kept]
    a = _fit_concentration(ahead, votes)
    if a is None:
        return None
    alpha, beta = a + ahead, a + votes - ahead
    one_vote = _expected_majority(alpha, beta)
    strong = is_strong(m)
    return FewVotes(
        num_pairs=len(m),
        num_strong=int(strong.sum()),
        concentration=a,
        one_vote=_mean(one_vote),
        any_vote=float(np.average(one_vote, weights=votes)),
        one_vote_strong=_mean(one_vote[strong]),
        entropy=_mean(_expected_entropy(alpha, beta)),
    )


def _fit_concentration(ahead_M: np.ndarray, votes_M: np.ndarray) -> float | None:
    """The most likely a of Beta(a, a), given that no share below the least one is seen."""
    from scipy.stats import betabinom  # a third of a second; only votes need it

    fitted = (votes_M > 1) & (votes_M <= _MANY_VOTES)
    if not fitted.any():
        return None
    least_share = float((ahead_M / votes_M).min())
    outcomes_2O = np.stack([ahead_M[fitted], votes_M[fitted]])
    (ahead, votes), count = np.unique(outcomes_2O, axis=1, return_counts=True)
    # Every outcome that could be seen, for as many votes as some pair has.
    totals, total_of = np.unique(votes, return_inverse=True)
    possible, owner = _possible_majorities(totals, least_share)
    if len(possible) == len(totals):  # it could not have been otherwise, whatever a is
        return None

    def loss(log_a: float) -> float:
        a = np.exp(log_a)
        seen = betabinom.pmf(possible, totals[owner], a, a)
        log_seen = np.log(np.bincount(owner, seen, len(totals)))
        return -float(count @ (betabinom.logpmf(ahead, votes, a, a) - log_seen[total_of]))

    found = minimize_scalar(loss, bounds=_LOG_CONCENTRATIONS, method="bounded")
    return float(np.exp(found.x))


def _possible_majorities(totals: np.ndarray, least_share: float) -> tuple[np.ndarray, np.ndarray]:
    """Votes of a majority of at least this share, and of which of the totals they are votes."""
    ahead = [np.arange(np.ceil(least_share * total - _ROUNDING), total + 1) for total in totals]
    return np.concatenate(ahead), np.repeat(np.arange(len(totals)), [len(k) for k in ahead])


def _expected_majority(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """E max(p, 1 - p) for p ~ Beta(alpha, beta)."""
    mean = alpha / (alpha + beta)
    above = mean * (1 - betainc(alpha + 1, beta, 0.5))  # E p where p is above one half
    below = (1 - mean) * betainc(alpha, beta + 1, 0.5)
    return above + below


def _expected_entropy(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """E -p log p - (1-p) log(1-p) for p ~ Beta(alpha, beta), in nats."""
    total = alpha + beta
    p_log_p = alpha / total * (psi(alpha + 1) - psi(total + 1))
    q_log_q = beta / total * (psi(beta + 1) - psi(total + 1))
    return -p_log_p - q_log_q


def way_to_ceiling(accuracy: float, ceiling: float) -> float:
    """The share of the way from chance to a ceiling, (accuracy - 1/2) / (ceiling - 1/2).

    Both must be agreement with the same thing: for `one_vote`, the share of votes agreed with.
    """
    return (accuracy - 0.5) / (ceiling - 0.5) if ceiling > 0.5 else float("nan")


def agreement_with_one_vote(difference_M: np.ndarray, preference_M: np.ndarray) -> np.ndarray:
    """The share of a pair's votes that the scores agree with; equal scores agree with half."""
    p = preference_M.astype(np.float64)
    return np.select([difference_M > 0, difference_M < 0], [p, 1 - p], 0.5)


def by_strength(
    difference_R: np.ndarray, pair_R: np.ndarray, preference_M: np.ndarray, series_M: np.ndarray
) -> pd.DataFrame:
    """How well scores agree with pairs of each strength, with all and with strong ones.

    Args:
      difference_R: score_a - score_b of a pair, as a trial sees it.
      pair_R: which pair.
      preference_M, series_M: of all pairs.

    Returns:
      One row a group of pairs that is not empty: `strength`; `pairs` and `series` judged;
      `accuracy`, against the direction of the majority, with its standard error clustered by
      series; `agreement` with one vote, its ceiling, and the share of the way there from chance.
    """
    num_pairs = len(preference_M)
    hit_R, directed_R = pair_hits(difference_R, preference_M[pair_R])
    agreed_R = agreement_with_one_vote(difference_R, preference_M[pair_R])
    hits_M, directed_M, agreed_M, judged_M = (
        np.bincount(pair_R, weights, num_pairs)
        for weights in (hit_R * directed_R, directed_R, agreed_R, np.ones(len(pair_R)))
    )
    bin_M = strength_bin(preference_M)
    ends = (*STRENGTHS[1:], 1.0)
    groups = {ALL: np.ones(num_pairs, bool), STRONG_PAIRS: is_strong(preference_M)} | {
        f"{low:g}-{high:g}": bin_M == i
        for i, (low, high) in enumerate(zip(STRENGTHS, ends, strict=True))
    }
    rows = []
    for name, group_M in groups.items():
        mine = group_M & (judged_M > 0)
        if not mine.any():
            continue
        judged, directed = judged_M[mine].sum(), directed_M[mine].sum()
        agreement = agreed_M[mine].sum() / judged
        ceiling = float(majority(preference_M[mine].astype(np.float64)) @ judged_M[mine] / judged)
        error, _, _ = clustered_error(hits_M[mine], directed_M[mine], series_M[mine])
        rows.append(
            {
                "strength": name,
                "pairs": int(mine.sum()),
                "series": len(np.unique(series_M[mine])),
                "accuracy": hits_M[mine].sum() / directed if directed else float("nan"),
                "accuracy_error": error,
                "agreement": agreement,
                "agreement_ceiling": ceiling,
                "way_to_ceiling": way_to_ceiling(agreement, ceiling),
            }
        )
    return pd.DataFrame(rows)
