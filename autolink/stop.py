"""Ending a run between two steps rather than in the middle of one."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_PARENT = os.getppid()
_LAUNCHED = not os.environ.keys().isdisjoint({"ACCELERATE_DYNAMO_BACKEND", "TORCHELASTIC_RUN_ID"})
"""Whether `accelerate launch` or torchrun started this process: it dies of a signal without passing it on."""

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stop:
    """Remembers that the run was asked to stop, so that the step can end and be saved."""

    def __init__(self) -> None:
        self.number = 0
        """The signal that asked; 0 if none did."""

    @property
    def asked(self) -> int:
        """The signal that asked, SIGTERM where the launcher is gone; 0 if the run shall go on."""
        if not self.number and _LAUNCHED and os.getppid() != _PARENT:
            self.number = int(signal.SIGTERM)
        return self.number

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Catch SIGINT, SIGTERM and SIGHUP (unless that is ignored, as under nohup); a second Ctrl-C stops at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self.number and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.number = number

        caught = [number for number in SIGNALS if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, ask) for number in caught}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
