"""Being asked to stop: at once where that is harmless, afterwards where the catalogue is written."""

from __future__ import annotations

import signal

import pytest

from extractors.runtime.signals import SIGNALS, Signals, Stopped


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_interrupts_an_interruptible_block(number: signal.Signals, code: int, signals: Signals) -> None:
    with pytest.raises(Stopped) as caught, signals.interruptible():
        signal.raise_signal(number)
        pytest.fail("went on")
    assert caught.value.exit_code == code
    assert str(caught.value) == f"stopped by {number.name}"
    # It is not an Exception: no `except Exception` on the way holds it up.
    assert not isinstance(caught.value, Exception)


def test_elsewhere_it_is_noted_and_obeyed_afterwards(signals: Signals) -> None:
    signals.check()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Stopped, match="SIGTERM"):
        signals.check()
    with pytest.raises(Stopped, match="SIGTERM"), signals.interruptible():
        pytest.fail("began")


def test_the_first_signal_counts_and_clean_up_is_not_interrupted(signals: Signals) -> None:
    with pytest.raises(Stopped, match="SIGTERM"), signals.interruptible():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)


def test_without_handlers_nothing_is_caught() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    signals = Signals()
    with signals.interruptible():
        signals.check()
    assert [signal.getsignal(number) for number in SIGNALS] == before
