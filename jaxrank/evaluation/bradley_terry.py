"""Maximum-likelihood strengths of the Bradley-Terry model, by Newton's method.

Axis letters: N photos, M pairs, C connected components of the comparison graph.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.special import expit
from threadpoolctl import threadpool_limits

# Penalty on a pair's squared log-odds. It keeps the odds finite (about 1,400 to 1) where every vote
# went to one photo, and moves log-odds of 9 to 1 by 0.002.
RIDGE = 1e-4
# A component has converged when its largest step is at most this. Newton's method converges
# quadratically, so the remaining error is about the square of the step.
_LAST_STEP = 1e-6
_MOST_STEPS = 100
# Conjugate gradients need few iterations where a graph has no thin cut; a graph with thin cuts has
# sparse factors. So a component that exceeds this number of iterations at equal weights is
# factorised.
_FEW_ITERATIONS = 400
_MOST_ITERATIONS = 2000
# Conjugate gradients stop at a residual norm of this share of the right-hand side, or at the norm
# of rounding errors.
_RESIDUAL, _ROUNDING = 1e-9, 1e-13
# Relative tolerance of a Newton step: the norm of its right-hand side, at most this.
_LARGEST_RESIDUAL = 0.01


class Strengths(NamedTuple):
    """Fitted strengths of photos.

    Attributes:
      strength_N: float64 strengths, with mean zero in each component.
      converged: whether every component has converged.
    """

    strength_N: np.ndarray
    converged: bool


class _Graph:
    """Comparison graph: photos joined by pairs, sorted by component.

    Attributes:
      rows_M2: photos of each pair; no two pairs have the same photos.
      votes_M: number of votes (or preferences) of each pair.
      preferred_M: sum of the votes (or preferences) for the pair's first photo.
      component_N: component of each photo, from 0.
      starts_C: first photo of each component.
    """

    def __init__(
        self,
        rows_M2: np.ndarray,
        votes_M: np.ndarray,
        preferred_M: np.ndarray,
        component_N: np.ndarray,
    ):
        self.rows_M2, self.votes_M, self.preferred_M = rows_M2, votes_M, preferred_M
        self.starts_C, self.component_N = np.unique(
            component_N, return_index=True, return_inverse=True
        )[1:]
        # Position of each entry of the Laplacian, in the order of `laplacian`, from 1.
        size = len(component_N)
        rows_a, rows_b = rows_M2.T
        diagonal = np.arange(size)
        entries = np.arange(1, size + 2 * len(rows_a) + 1)
        places = (np.r_[rows_a, rows_b, diagonal], np.r_[rows_b, rows_a, diagonal])
        self._pattern = scipy.sparse.csr_array((entries, places), shape=(size, size))

    def part(self, chosen_C: np.ndarray) -> tuple["_Graph", np.ndarray]:
        """Returns the subgraph of some components, and the indices of its photos in this graph."""
        if chosen_C.all():
            return self, np.arange(len(self.component_N))
        chosen_N = chosen_C[self.component_N]
        place_N = np.cumsum(chosen_N) - 1
        kept_M = chosen_N[self.rows_M2[:, 0]]
        graph = _Graph(
            place_N[self.rows_M2[kept_M]],
            self.votes_M[kept_M],
            self.preferred_M[kept_M],
            self.component_N[chosen_N],
        )
        return graph, np.flatnonzero(chosen_N)

    def sum_C(self, values_N: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values_N, self.starts_C)

    def centred(self, values_N: np.ndarray) -> np.ndarray:
        """Subtracts the mean of each component."""
        means_C = self.sum_C(values_N) / np.bincount(self.component_N)
        return np.asarray(values_N - means_C[self.component_N])

    def degree_N(self, weight_M: np.ndarray) -> np.ndarray:
        """Sum of the weights of each photo's pairs."""
        rows_a, rows_b = self.rows_M2.T
        size = len(self.component_N)
        return np.bincount(rows_a, weight_M, size) + np.bincount(rows_b, weight_M, size)

    def divergence_N(self, flow_M: np.ndarray) -> np.ndarray:
        """Signed sum of the flows of each photo's pairs, negative where it is the second photo."""
        rows_a, rows_b = self.rows_M2.T
        size = len(self.component_N)
        return np.bincount(rows_a, flow_M, size) - np.bincount(rows_b, flow_M, size)

    def laplacian(self, weight_M: np.ndarray, diagonal_N: np.ndarray) -> scipy.sparse.csr_array:
        values = np.concatenate([-weight_M, -weight_M, diagonal_N])[self._pattern.data - 1]
        places = self._pattern.indices, self._pattern.indptr
        return scipy.sparse.csr_array((values, *places), shape=self._pattern.shape)


# Solves for the Newton step [N], from the graph, the pairs' weights [M] and a right-hand side [N]
# whose sum is zero in each component.
_Solver = Callable[[_Graph, np.ndarray, np.ndarray], np.ndarray]


def fit(
    rows_M2: np.ndarray,
    preference_M: np.ndarray,
    num_photos: int,
    votes_M: np.ndarray | None = None,
) -> Strengths:
    """Fits the strengths s of photos.

    The strengths maximise the sum of v (p log g(d) + (1-p) log g(-d) - RIDGE/2 d^2) over the pairs.
    There p is the preference, v the number of votes, d = s_a - s_b and g the logistic function
    (Bradley and Terry 1952). The ridge is on d, not on s: it is zero at d = 0, so it makes no
    difference between photos of equal strength.

    Args:
      rows_M2: indices of each pair's photos, from 0.
      preference_M: share of votes for the first photo.
      num_photos: N; photos in no pair have strength 0.
      votes_M: number of votes behind each preference, above 0; by default one each.
    """
    # With several threads, sums of long vectors would depend on the number of cores.
    with threadpool_limits(limits=1, user_api="blas"):
        strength_N = np.zeros(num_photos)
        whole, photos = _graph(rows_M2, preference_M, num_photos, votes_M)
        converged = True
        thin_C = _thin(whole)
        for chosen_C, solver in ((~thin_C, _conjugate_gradients), (thin_C, _factorised)):
            if chosen_C.any():
                graph, places = whole.part(chosen_C)
                strength_N[photos[places]], ended = _newton(graph, solver)
                converged &= ended
    return Strengths(strength_N, converged)


def _graph(
    rows_M2: np.ndarray, preference_M: np.ndarray, num_photos: int, votes_M: np.ndarray | None
) -> tuple[_Graph, np.ndarray]:
    """Builds the comparison graph of all pairs; returns it with the indices of its photos."""
    ones = np.ones(len(rows_M2))
    joined = scipy.sparse.coo_array((ones, rows_M2.T), shape=(num_photos, num_photos))
    component_N = connected_components(joined, directed=False)[1]
    photos = np.argsort(component_N, kind="stable")
    photos = photos[np.bincount(component_N)[component_N[photos]] > 1]
    place_N = np.zeros(num_photos, np.int64)
    place_N[photos] = np.arange(len(photos))
    # Two photos may be compared more than once, in either order.
    low_M, high_M = np.sort(place_N[rows_M2], axis=1).T
    keys, pair_M = np.unique(low_M * num_photos + high_M, return_inverse=True)
    is_low_M = place_N[rows_M2[:, 0]] == low_M
    toward_low_M = np.where(is_low_M, preference_M, 1 - preference_M)
    preferred = np.bincount(pair_M, toward_low_M if votes_M is None else votes_M * toward_low_M)
    pairs = np.stack(np.divmod(keys, num_photos), axis=1)
    return _Graph(pairs, np.bincount(pair_M, votes_M), preferred, component_N[photos]), photos


def _newton(graph: _Graph, solver: _Solver) -> tuple[np.ndarray, bool]:
    """Returns strengths [N], started from zero, and whether all components have converged.

    Each component has its own step lengths.
    """
    strength_N = np.zeros(len(graph.component_N))
    left = np.arange(len(strength_N))  # indices of the graph's photos in N
    for _ in range(_MOST_STEPS):
        step_N = _step(graph, solver, strength_N[left])
        strength_N[left] += step_N
        running_C = np.maximum.reduceat(np.abs(step_N), graph.starts_C) > _LAST_STEP
        if not running_C.any():
            return strength_N, True
        # Building a subgraph takes time, so converged components stay while they are few.
        if running_C[graph.component_N].mean() < 0.7:
            graph, places = graph.part(running_C)
            left = left[places]
    return strength_N, False


def _step(graph: _Graph, solver: _Solver, strength_N: np.ndarray) -> np.ndarray:
    """Returns a step [N] that lowers the loss of every component."""
    rows_a, rows_b = graph.rows_M2.T
    d_M = strength_N[rows_a] - strength_N[rows_b]
    chance_M = expit(d_M)
    weight_M = graph.votes_M * (chance_M * (1 - chance_M) + RIDGE)
    right_N = graph.divergence_N(-_slope(graph, d_M))
    step_N = graph.centred(solver(graph, weight_M, graph.centred(right_N)))
    step_M = step_N[rows_a] - step_N[rows_b]
    component_M = graph.component_N[rows_a]
    overshot_C = np.bincount(component_M, _slope(graph, d_M + step_M) * step_M) > 0
    # An overshooting step is damped to a share that always lowers the loss; a step that does not
    # overshoot lowers it in full length: theorem 2 of Sun and Tran-Dinh 2019, "Generalized
    # self-concordant functions".
    longest_C = np.full(len(overshot_C), np.finfo(np.float64).tiny)
    np.maximum.at(longest_C, component_M, np.abs(step_M))
    share_C = np.where(overshot_C, np.log1p(longest_C) / longest_C, 1.0)
    return np.asarray(share_C[graph.component_N] * step_N)


def _slope(graph: _Graph, d_M: np.ndarray) -> np.ndarray:
    """Derivative of each pair's loss with respect to its difference of strengths."""
    return np.asarray(graph.votes_M * (expit(d_M) + RIDGE * d_M) - graph.preferred_M)


def _thin(graph: _Graph) -> np.ndarray:
    """Flags the components [C] in which conjugate gradients converge slowly."""
    right_N = graph.centred(graph.divergence_N(graph.preferred_M - graph.votes_M / 2))
    _, ended_C = _iterate(graph, graph.votes_M, right_N, _FEW_ITERATIONS, _RESIDUAL)
    return ~ended_C


def _conjugate_gradients(graph: _Graph, weight_M: np.ndarray, right_N: np.ndarray) -> np.ndarray:
    # A step that has not converged lowers the loss too.
    return _iterate(graph, weight_M, right_N, _MOST_ITERATIONS, _LARGEST_RESIDUAL)[0]


def _iterate(
    graph: _Graph, weight_M: np.ndarray, right_N: np.ndarray, most: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Solves by conjugate gradients, preconditioned by the diagonal.

    SciPy's solver has one step length for all components, so it needs as many iterations as if they
    were one component.

    Returns:
      The solution [N], and whether each component has converged [C].
    """
    component_N = graph.component_N
    degree_N = graph.degree_N(weight_M)
    laplacian = graph.laplacian(weight_M, degree_N)
    solution_N = np.zeros(len(right_N))
    residual_N = right_N
    direction_N = residual_N / degree_N
    norm_C = graph.sum_C(residual_N * direction_N)
    share_C = np.clip(np.sqrt(norm_C), _RESIDUAL, share)
    limit_C = np.maximum(share_C**2 * norm_C, _ROUNDING**2)
    for _ in range(most):
        running_C = norm_C > limit_C
        if not running_C.any():
            break
        image_N = laplacian @ direction_N
        curvature_C = graph.sum_C(direction_N * image_N)
        length_C = np.divide(norm_C, curvature_C, out=np.zeros_like(norm_C), where=running_C)
        length_N = length_C[component_N]
        solution_N += length_N * direction_N
        residual_N = residual_N - length_N * image_N
        scaled_N = residual_N / degree_N
        before_C, norm_C = norm_C, graph.sum_C(residual_N * scaled_N)
        turn_C = np.divide(norm_C, before_C, out=np.zeros_like(norm_C), where=running_C)
        direction_N = scaled_N + turn_C[component_N] * direction_N
    return solution_N, norm_C <= limit_C


def _factorised(graph: _Graph, weight_M: np.ndarray, right_N: np.ndarray) -> np.ndarray:
    diagonal_N = graph.degree_N(weight_M)
    # Anchors the first photo of each component; otherwise the matrix would be singular.
    diagonal_N[graph.starts_C] *= 2
    factors = splu(
        graph.laplacian(weight_M, diagonal_N).T,  # as CSC; it is symmetric
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return np.asarray(factors.solve(right_N))
