"""Jobs that are detected for in one batch."""

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from autolink.generation import in_step as module
from autolink.generation.in_step import Job, Turn, in_step


class Detector:
    """The mean of each crop, and how many crops came at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.floating]:
        self.batches.append(len(crops))
        means: NDArray[np.floating] = crops.reshape(len(crops), -1).mean(1)[:, None, None].repeat(2, 2)
        return means


def sums(number: int, length: int) -> Callable[[Turn], float]:
    """A job whose every question follows from the answer before; the sum that comes out differs for each."""

    def do(turn: Turn) -> float:
        value = float(number)
        for _ in range(length):
            value = 1 + turn.detect(np.full((1 + number % 2, 2, 2, 3), int(value), np.uint8))[0, 0, 0]
        return value + turn.call(lambda: number)

    return do


def test_each_job_has_its_own_answers_and_batches_are_full() -> None:
    detector = Detector()
    lengths = [5, 1, 3, 8, 2, 2]
    jobs = [Job(sums(n, length), 8) for n, length in enumerate(lengths)]
    assert sorted(in_step(jobs, detector)) == sorted(2 * n + length for n, length in enumerate(lengths))
    assert sum(detector.batches) == sum((1 + n % 2) * length for n, length in enumerate(lengths))
    assert max(len(detector.batches), 1) <= 13  # 21 one by one, 11 at best, two at once
    again = Detector()
    list(in_step([Job(sums(n, length), 8) for n, length in enumerate(lengths)], again))
    assert again.batches == detector.batches


def test_there_is_room_for_few_large_ones() -> None:
    running, most = set[int](), list[int]()

    def job(number: int) -> Job[int]:
        def do(turn: Turn) -> int:
            running.add(number)
            turn.detect(np.zeros((1, 2, 2, 3), np.uint8))
            most.append(len(running))
            turn.call(lambda: running.discard(number))
            return number

        return Job(do, 9 if number < 3 else 4)

    assert sorted(in_step(map(job, range(8)), Detector())) == list(range(8))
    assert most[0] == 1 and max(most) == 4
    assert list(in_step([Job(sums(0, 2), 99)], Detector())) == [2]
    assert list(in_step([], Detector())) == []


@pytest.mark.parametrize("end", ["error", "closed"])
def test_no_thread_outlives_an_error_or_who_asked(end: str) -> None:
    before = threading.active_count()

    def failing(turn: Turn) -> float:
        turn.detect(np.zeros((1, 2, 2, 3), np.uint8))
        raise ValueError("this one")

    def jobs() -> Iterator[Job[float]]:
        yield Job(failing if end == "error" else sums(0, 1), 1)
        yield from (Job(sums(n, 500), 1) for n in range(4))

    results = in_step(jobs(), Detector())
    if end == "error":
        with pytest.raises(ValueError, match="this one"):
            next(results)
    else:
        assert next(results) == 1
        results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert module.ROOM >= 8
