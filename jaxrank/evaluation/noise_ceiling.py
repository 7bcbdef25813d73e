"""Noise ceilings: the best agreement with the voters that any model can reach.

For a pair with preference p, m = max(p, 1 - p) is the share of its majority. No model agrees with
one vote more often than m, and no log loss is below the entropy of p. The ceiling of accuracy is
100%, because accuracy counts agreement with the direction of the majority. An accuracy is therefore
never compared with the mean of m. Axis letters: M pairs; R judgements, one per pair and trial that
tested it.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import betainc, entr, psi

from jaxrank.metrics import pair_hits
from jaxrank.statistics import clustered_error

# Least m of a strong pair.
STRONG = 0.7
# Lower ends of five bins of m; a bin excludes its upper end, except the last.
STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9)
ALL, STRONG_PAIRS = "all", "strong"
# Tolerance of comparisons of m: 0.7 in 32 bits is less than 0.7, and 1 - p is rounded. Shares of
# few votes are further apart.
_ROUNDING = 1e-6
# Most votes of a pair that the correction is fitted to. More votes carry no information on what few
# votes hide, and the likelihood has as many terms.
_MANY_VOTES = 100
# Search range of the log concentration of the beta distribution: from nearly unanimous voters to
# nearly all pairs even.
_LOG_CONCENTRATIONS = (np.log(1e-3), np.log(1e3))


class Ceilings(NamedTuple):
    """Plug-in ceilings of some pairs, weighted equally; NaN without such pairs.

    They take each preference as the true share. Preferences rest on few votes, so the ceilings are
    optimistic.

    Attributes:
      num_pairs, num_strong: number of pairs, and of those with m of at least STRONG.
      one_vote, one_vote_strong: mean of m, the ceiling for agreement with one vote.
      entropy, entropy_strong: mean entropy in nats, the floor of the log loss against preferences.
      two_voters: probability that two voters agree, the mean of p^2 + (1 - p)^2.
      random_top1: probability that a random photo is its series' best, the mean of 1/photos.
      num_by_strength: number of pairs in the bins of m that begin at STRENGTHS.
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
    """Computes the ceilings of pairs.

    Args:
      preference_M: share of votes for the first photo.
      pair_rows_M2: indices of both photos.
      series_M: index of the series.
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
    """Computes the ceilings of a pair table, whose photos need no features."""
    rows, _ = pd.factorize(pd.concat([table["image_a"], table["image_b"]]))
    series_M, _ = pd.factorize(table["series_id"])
    return ceilings(table["preference"].to_numpy(np.float64), rows.reshape(2, -1).T, series_M)


def majority(preference_M: np.ndarray) -> np.ndarray:
    """Share of the majority, m."""
    return np.maximum(preference_M, 1 - preference_M)


def is_strong(preference_M: np.ndarray) -> np.ndarray:
    return majority(preference_M) >= STRONG - _ROUNDING


def without_shares(preference_M: np.ndarray) -> bool:
    """Whether no preference is a share of votes: all are 0, 1 or 0.5, a tie."""
    return bool(np.isin(preference_M, (0, 0.5, 1)).all())


def strength_bin(preference_M: np.ndarray) -> np.ndarray:
    """Index of the bin of STRENGTHS that contains a pair's m, from 0."""
    return np.digitize(majority(preference_M) + _ROUNDING, STRENGTHS[1:])


def entropy_of(preference_M: np.ndarray) -> np.ndarray:
    """Entropy of one voter's vote, in nats."""
    return entr(preference_M) + entr(1 - preference_M)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


class FewVotes(NamedTuple):
    """Ceilings corrected for few votes per pair; compare with the plug-in ceilings of these pairs.

    Attributes:
      num_pairs, num_strong: pairs with a majority among their votes, and the strong ones.
      concentration: parameter a of the beta distribution of the true shares, Beta(a, a).
      one_vote, one_vote_strong, entropy: as in `Ceilings`, expected given each pair's votes; strong
        refers to the preferences, not to the true shares.
      any_vote: `one_vote` with pairs weighted by their votes: the ceiling for agreement with a vote
        drawn from all votes.
    """

    num_pairs: int
    num_strong: int
    concentration: float
    one_vote: float
    any_vote: float
    one_vote_strong: float
    entropy: float


def few_votes(preference_M: np.ndarray, votes_M: np.ndarray) -> FewVotes | None:
    """Corrects ceilings for few votes, from the share and the number of votes of each pair.

    Five of five votes do not make a preference of 100%. The true shares are assumed to be Beta(a,
    a), symmetric because the order of a pair's photos is arbitrary. The votes of a pair are then
    beta-binomial. Pairs without a majority are dropped. The likelihood is conditioned on what the
    table contains: it excludes ties, and majorities below the least in the table (which may be
    filtered).

    Args:
      preference_M: share of a pair's votes for one photo, possibly shrunk a little towards one
        half: it is rounded to whole votes.
      votes_M: number of votes.

    Returns:
      The ceilings; None where the votes carry no information on how far voters agree. That is the
      case with single votes, with unanimous pairs only (others may have been left out), or with so
      many votes that nothing is hidden.
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
    """Fits the a of Beta(a, a) by maximum likelihood, given that smaller shares are not seen."""
    from scipy.optimize import minimize_scalar
    from scipy.stats import betabinom  # imports in a third of a second; only votes need it

    fitted = (votes_M > 1) & (votes_M <= _MANY_VOTES)
    if not fitted.any():
        return None
    least_share = float((ahead_M / votes_M).min())
    outcomes_2O = np.stack([ahead_M[fitted], votes_M[fitted]])
    (ahead, votes), count = np.unique(outcomes_2O, axis=1, return_counts=True)
    # All outcomes that could be observed, for each number of votes of some pair.
    totals, total_of = np.unique(votes, return_inverse=True)
    possible, owner = _possible_majorities(totals, least_share)
    if len(possible) == len(totals):  # the outcome does not depend on a
        return None

    def loss(log_a: float) -> float:
        a = np.exp(log_a)
        seen = betabinom.pmf(possible, totals[owner], a, a)
        log_seen = np.log(np.bincount(owner, seen, len(totals)))
        return -float(count @ (betabinom.logpmf(ahead, votes, a, a) - log_seen[total_of]))

    found = minimize_scalar(loss, bounds=_LOG_CONCENTRATIONS, method="bounded")
    return float(np.exp(found.x))


def _possible_majorities(totals: np.ndarray, least_share: float) -> tuple[np.ndarray, np.ndarray]:
    """Votes of all majorities of at least this share, and the index of their total."""
    ahead = [np.arange(np.ceil(least_share * total - _ROUNDING), total + 1) for total in totals]
    return np.concatenate(ahead), np.repeat(np.arange(len(totals)), [len(k) for k in ahead])


def _expected_majority(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Expectation of max(p, 1 - p) for p ~ Beta(alpha, beta)."""
    mean = alpha / (alpha + beta)
    above = mean * (1 - betainc(alpha + 1, beta, 0.5))  # E p where p is above one half
    below = (1 - mean) * betainc(alpha, beta + 1, 0.5)
    return above + below


def _expected_entropy(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Expectation of -p log p - (1-p) log(1-p) for p ~ Beta(alpha, beta), in nats."""
    total = alpha + beta
    p_log_p = alpha / total * (psi(alpha + 1) - psi(total + 1))
    q_log_q = beta / total * (psi(beta + 1) - psi(total + 1))
    return -p_log_p - q_log_q


def way_to_ceiling(accuracy: float, ceiling: float) -> float:
    """Share of the way from chance to a ceiling, (accuracy - 1/2) / (ceiling - 1/2).

    Both must measure agreement with the same thing: for `one_vote`, `accuracy` is the share of
    votes that the scores agree with.
    """
    return (accuracy - 0.5) / (ceiling - 0.5) if ceiling > 0.5 else float("nan")


def agreement_with_one_vote(difference_M: np.ndarray, preference_M: np.ndarray) -> np.ndarray:
    """Share of a pair's votes that the scores agree with; one half where scores are equal."""
    p = preference_M.astype(np.float64)
    return np.select([difference_M > 0, difference_M < 0], [p, 1 - p], 0.5)


def by_strength(
    difference_R: np.ndarray, pair_R: np.ndarray, preference_M: np.ndarray, series_M: np.ndarray
) -> pd.DataFrame:
    """Tabulates agreement by the strength of pairs, for all pairs and for strong ones.

    Args:
      difference_R: score_a - score_b of a pair, by one trial.
      pair_R: index of the pair.
      preference_M, series_M: preference and series of all pairs.

    Returns:
      One row per group of pairs that is not empty. `strength` names the group; `pairs` and `series`
      count what is judged. `accuracy` is over `pairs_with_direction`, against the direction of the
      majority, with its standard error clustered by series. `agreement` is over all pairs, with one
      vote, followed by its ceiling and the share of the way there from chance.
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
                "pairs_with_direction": int((mine & (directed_M > 0)).sum()),
                "series": len(np.unique(series_M[mine])),
                "accuracy": hits_M[mine].sum() / directed if directed else float("nan"),
                "accuracy_error": error,
                "agreement": agreement,
                "agreement_ceiling": ceiling,
                "way_to_ceiling": way_to_ceiling(agreement, ceiling),
            }
        )
    return pd.DataFrame(rows)
