"""Text from data on its way to a terminal, a log or a page."""


def printable(text: str) -> str:
    r"""Spells out what is not printable, such as the escape sequences of a terminal.

    Names of photos, series, columns and files are a user's: what they hold must not move the
    cursor, change a colour or turn the direction of writing. Line ends stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _spelled(c) for c in text)


def _spelled(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
