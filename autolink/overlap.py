"""Work that overlaps in threads, in order and bounded memory; torch, video decoders and encoders let go of Python."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_END: Any = object()


def workers_on(device: torch.device) -> int:
    """How many batches are computed at once: on a CPU one for each of torch's threads, elsewhere two.

    The second keeps a graphics card busy while the first one's pictures are fetched.
    """
    return torch.get_num_threads() if device.type == "cpu" else 2


def overlapped(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """What a function makes of items, in order, so many of them at once; one worker is the caller's own thread.

    Every other has one of torch's threads. No more items are taken than there are workers, and one. What the function
    or the items raise comes out where the result would.
    """
    if workers < 2:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with _threads(workers) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def ahead(items: Iterable[Item], most: int) -> Generator[Item, None, None]:
    """The same items, fetched by another thread, at most so many before they are asked for; by the caller's with 0.

    Close it before what it fetches from: the thread may be in there.
    """
    source = iter(items)
    if most < 1:
        yield from source
        return
    with _threads(1) as pool:
        waiting = deque(pool.submit(next, source, _END) for _ in range(most))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, source, _END))
            yield item


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads whose operations use one thread each; what has not begun when the block ends never does."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "overlap", torch.set_num_threads, (1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # threads to come would have one as well
