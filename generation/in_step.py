"""Several videos followed at once, so that the detector sees a picture of each in one batch.

In one video each crop depends on the frame before, so that a video alone is looked at picture by picture, which takes
three times as long.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from autolink.video.subject import Detect

Image = NDArray[np.uint8]
Result = TypeVar("Result")

ROOM = 16
"""Videos of half a million pixels that are followed at once; larger ones count more, for some fifty frames of each are
in memory."""


class Job(NamedTuple, Generic[Result]):
    """Something to be done in a thread of its own."""

    do: Callable[["Turn"], Result]
    weight: int
    """What it takes of `ROOM`."""


class Stopped(BaseException):
    """Ends a thread whose answer will never come; no error, so that nothing catches it."""


class Turn:
    """The way from a job to the thread in which the networks run; PyTorch keeps threads of its own for each caller."""

    def __init__(self, asked: "SimpleQueue[tuple[Turn, Any]]") -> None:
        self.asked = asked
        self.answers: SimpleQueue[Any] = SimpleQueue()

    def detect(self, crops: Image) -> NDArray[np.floating]:
        """Keypoints of crops, (n, size, size, 3) -> (n, K, 2), found together with those of the other jobs."""
        keypoints: NDArray[np.floating] = self._answer(crops)
        return keypoints

    def call(self, work: Callable[[], Result]) -> Result:
        """What some other work with networks gives."""
        result: Result = self._answer(work)
        return result

    def _answer(self, question: Any) -> Any:
        self.asked.put((self, question))
        answer = self.answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer


class _Done(NamedTuple):
    """A job's last word."""

    result: Any
    error: BaseException | None


def in_step(jobs: Iterable[Job[Result]], detect: Detect) -> Iterator[Result]:
    """The results of jobs as they end; as many run at once as there is room for.

    The detector runs when each of them waits for it. That alone decides what is in a batch, so batches do not depend
    on how fast a thread is; keypoints differ by rounding from those of one picture at a time.
    """
    asked: SimpleQueue[tuple[Turn, Any]] = SimpleQueue()
    running: dict[Turn, tuple[threading.Thread, int]] = {}
    waiting: dict[Turn, Image] = {}
    coming = iter(jobs)
    following = next(coming, None)
    try:
        while running or following:
            while following and (not running or _taken(running) + following.weight <= ROOM):
                turn = Turn(asked)
                thread = threading.Thread(target=_run, args=(turn, following.do), daemon=True)
                running[turn] = thread, following.weight
                thread.start()
                following = next(coming, None)
            turn, question = asked.get()
            if isinstance(question, _Done):
                running.pop(turn)[0].join()
                if question.error:
                    raise question.error
                yield question.result
            elif callable(question):
                turn.answers.put(question())
            else:
                waiting[turn] = question
            if waiting and len(waiting) == len(running) and not _room_for(running, following):
                _answer_all({turn: waiting.pop(turn) for turn in running}, detect)
    finally:
        for turn in running:
            turn.answers.put(Stopped())
        for thread, _ in running.values():
            thread.join()


def _taken(running: dict[Turn, tuple[threading.Thread, int]]) -> int:
    return sum(weight for _, weight in running.values())


def _room_for(running: dict[Turn, tuple[threading.Thread, int]], job: Job[Any] | None) -> bool:
    return job is not None and _taken(running) + job.weight <= ROOM


def _answer_all(waiting: dict[Turn, Image], detect: Detect) -> None:
    """Detect in the crops of all that wait, in one batch."""
    turns = list(waiting)
    keypoints = detect(np.concatenate([waiting[turn] for turn in turns]))
    ends = np.cumsum([len(waiting[turn]) for turn in turns])
    for turn, found in zip(turns, np.split(keypoints, ends[:-1]), strict=True):
        turn.answers.put(found)


def _run(turn: Turn, do: Callable[[Turn], Any]) -> None:
    try:
        done = _Done(do(turn), None)
    except Stopped:
        return
    except BaseException as error:  # noqa: BLE001  # raised again by whoever waits for the result
        done = _Done(None, error)
    turn.asked.put((turn, done))
