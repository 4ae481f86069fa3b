"""Text from outside (catalogue, store, files, errors of others), made fit for log lines, terminals and the log table:
the one place where it is escaped."""

import sys


def printable(text: str) -> str:
    r"""The same text with escapes such as `\n` and `\x1b` in place of what is not printable: line ends, controls,
    marks that turn the direction of writing, halves of characters. Done twice, it changes nothing more."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def say(text: str) -> None:
    """Print a line on standard output, whatever is in it and whatever the terminal can show."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding), flush=True)
