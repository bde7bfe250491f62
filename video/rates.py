"""The constant rate on whose steps a file's timestamps lie, so that each frame has a step of its own."""

from fractions import Fraction

import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from autolink.video.stills import STILL_RATE

STANDARD_RATES = (
    *map(Fraction, (1, 2, 3, 4, 5, 6, 8, 10, 12, 12.5, 15, 18, 20)),
    Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(48), Fraction(50),
    Fraction(60000, 1001), Fraction(60), Fraction(90), Fraction(120),
)  # fmt: skip
"""Rates to choose from where timestamps lie on no step."""
FASTEST_STEP = Fraction(60)
"""Frames a second up to which the greatest common step of all timestamps is taken as the rate."""
STRAYING = 0.02
"""Share of timestamps that may lie beside the steps of a rate that they have."""


def constant_rate(times: NDArray[np.int64], unit: Fraction, stream: VideoStream) -> Fraction:
    """The lowest rate on whose steps all of these times lie; where they lie on none, one that keeps all frames."""
    header = [rate for rate in (stream.guessed_rate, stream.average_rate) if rate]
    if len(times) < 2:
        return min(header, default=STILL_RATE)
    steps = np.diff(times)
    usual = 1 / (Fraction(float(np.median(steps))) * unit)
    common = 1 / (int(np.gcd.reduce(steps)) * unit)
    seconds = (times - times[0]) * float(unit)
    likely = [rate for rate in (*header, common) if rate <= usual * Fraction(5, 2)]
    fit = [rate for rate in likely if (rate in header or rate <= FASTEST_STEP) and _on_steps(seconds, rate, unit)]
    if fit:  # of rates that are the same but for rounding, the header's
        return next(rate for rate in fit if rate <= min(fit) * Fraction(51, 50))
    fast = [rate for rate in (*STANDARD_RATES, *likely) if rate >= usual * Fraction(97, 100)] or [usual]

    def by_standard(rate: Fraction) -> tuple[Fraction, bool, Fraction]:
        return max(r for r in (Fraction(0), *STANDARD_RATES) if r <= rate), rate not in STANDARD_RATES, rate

    return next((rate for rate in sorted(fast, key=by_standard) if _keeps_all(seconds, rate)), max(fast))


def _on_steps(seconds: NDArray[np.float64], rate: Fraction, unit: Fraction) -> bool:
    """Whether times lie on different steps of a rate, but for their rounding to units and a few that stray."""
    places = seconds * float(rate)
    off = np.abs(places - np.rint(places)) > min(0.25, float(unit * rate)) + 1e-3
    return bool(off.sum() <= STRAYING * len(off)) and _keeps_all(seconds, rate)


def _keeps_all(seconds: NDArray[np.float64], rate: Fraction) -> bool:
    before = -1
    for place in (seconds * float(rate)).tolist():
        now = next_place(before, place)
        if now == before:
            return False
        before = now
    return True


def next_place(before: int, place: float | Fraction) -> int:
    """The step of a frame behind one at step `before`; the same where it comes too late to have one of its own.

    Up to a step of delay is accepted, for timestamps jitter.
    """
    step = max(before, round(place))
    return step + 1 if step == before and before + 1 - place <= 1 else step
