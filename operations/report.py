"""What a verb has seen and done, a line for each thing on standard output."""

import logging
from collections.abc import Callable

from extractors.text import say

log = logging.getLogger(__name__)


class Report:
    """Says what is there, what is made, and what is lacking. changes: whether anything is made at all."""

    def __init__(self, changes: bool) -> None:
        self.changes = changes
        self.lacking = False

    def there(self, name: str, seen: str) -> None:
        """Say what was there already."""
        say(f"ok {name}: {seen}")

    def make(self, name: str, what: str, make: Callable[[], object]) -> None:
        """Make something that is lacking, and say so; or only say that it is lacking."""
        if not self.changes:
            self.lacks(name, what)
            return
        log.info("making %s: %s", name, what)
        make()
        say(f"made {name}: {what}")

    def lacks(self, name: str, what: str) -> None:
        """Say what is lacking and is not made here and now."""
        self.lacking = True
        say(f"lacking {name}: {what}")
