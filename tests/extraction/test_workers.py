"""How many photos are decoded at once."""

import pytest

from jaxrank.extraction import workers


@pytest.mark.parametrize(
    ("gigabytes", "expected"), [(0.1, 1), (3, 2), (6.3, 5), (1000, 8), (float("inf"), 8)]
)
def test_fewer_processes_decode_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, gigabytes: float, expected: int
) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    monkeypatch.setattr(workers, "available_bytes", lambda: gigabytes * 1e9)
    assert workers.default_workers() == expected
