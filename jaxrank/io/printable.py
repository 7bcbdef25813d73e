"""Escapes text from data for a terminal, a log or a page."""


def printable(text: str) -> str:
    r"""Escapes characters that are not printable, such as those of terminal escape sequences.

    Names of photos, series, columns and files come from users. They must not move the cursor,
    change a colour or reverse the direction of writing. Line ends are kept.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _spelled(c) for c in text)


def _spelled(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
