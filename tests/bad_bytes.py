"""Bytes that are nearly a good file, and what may become of them."""

from collections.abc import Callable
from contextlib import suppress

from hypothesis import strategies as st

from jaxrank.errors import UserError

_TOKENS = [b",", b'"', b"\n", b"nan", b"1e999", b"null", b"{", b"]", b"-1", b"\xff", b"\x00"]


@st.composite
def nearly(draw: st.DrawFn, good: bytes) -> bytes:
    """Good bytes with a few of them changed, cut out or put in."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 6)))
        data[start:stop] = draw(st.binary(max_size=6) | st.sampled_from(_TOKENS))
    return bytes(data)


def told_or_done(read: Callable[[], object]) -> None:
    """Whatever the bytes: a result or a user's mistake, never another error."""
    with suppress(UserError):
        read()
