"""Pauses between attempts: doubled each time, up to a limit, and spread so that many workers do not come back at the
same moment."""

import random
from dataclasses import dataclass

MOST_DOUBLINGS = 60


@dataclass(frozen=True)
class Backoff:
    """first: the longest pause after one failure, in seconds; longest: of all pauses; least: the shortest pause, as a
    share of the longest one at that time."""

    first: float
    longest: float
    least: float = 0.5

    def limit(self, failures: int) -> float:
        """The longest pause after so many failures in a row (from 1), in seconds."""
        return min(self.first * 2.0 ** min(failures - 1, MOST_DOUBLINGS), self.longest)

    def pause(self, failures: int) -> float:
        """A pause after so many failures in a row, in seconds: anything from `least` of the limit to the limit."""
        return spread(self.limit(failures), self.least, 1.0)


def spread(seconds: float, least: float = 0.8, most: float = 1.2) -> float:
    """A duration near `seconds`: anything between these shares of it."""
    return seconds * random.uniform(least, most)  # noqa: S311 (no secret, only jitter)
