"""Conditions on numbers, as `failed>0`: what `operations status --fail-if` takes."""

import argparse
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True)
class Condition:
    """A comparison of a number, by its name, with another one."""

    name: str
    comparison: str
    limit: float

    def __str__(self) -> str:
        return f"{self.name}{self.comparison}{self.limit:g}"

    def holds(self, numbers: Mapping[str, float]) -> bool:
        """Whether it does."""
        return COMPARISONS[self.comparison](numbers[self.name], self.limit)


def condition(known: Mapping[str, str]) -> Callable[[str], Condition]:
    """What reads a condition on one of these names, for argparse."""

    def read(text: str) -> Condition:
        found = re.fullmatch(r"\s*(\w+)\s*(>=|<=|==|!=|=|>|<)\s*(\d+(?:\.\d*)?)\s*", text)
        if found is None or found[1] not in known:
            raise argparse.ArgumentTypeError(
                f"{text[:80]!a} is no condition: write a name, a comparison and a number, as failed>0; names: "
                + ", ".join(known)
            )
        return Condition(found[1], found[2], float(found[3]))

    return read
