"""What a process that holds secrets does first."""

import resource


def leave_no_core() -> None:
    """Have no core dump written, whatever happens: both secrets would be in it. For this process and its children."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
