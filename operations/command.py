"""The command `python -m operations VERB`: how it begins, and how it ends."""

import logging
import os
import sys
from collections.abc import Sequence

from extractors.attempt import exit_code_of
from extractors.errors import ExtractionError
from extractors.logs import configure
from extractors.runtime.process import leave_no_core
from extractors.runtime.signals import Signals, Stopped
from operations.doors import module
from operations.options import read_options

log = logging.getLogger(__name__)

# That of a program which nobody listens to any more, as of `status | head`.
NO_READER = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code, of the same meaning as the workers'. The verb is given its options, and
    `signals` among them."""
    leave_no_core()
    try:
        options = read_options(sys.argv[1:] if arguments is None else arguments)
    except ExtractionError as error:
        configure()
        return exit_code_of(error, False)
    configure(options.verbose, options.log_format, verb=options.verb)
    options.signals = signals = Signals()
    signals.install()
    try:
        with signals.interruptible():
            code: int = module(options.verb).run(options)
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        # Python itself would complain once more, as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except Stopped as stopped:
        log.warning("%s", stopped)
        return stopped.exit_code
    except Exception as error:
        return exit_code_of(error, options.verbose)
