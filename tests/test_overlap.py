import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from autolink.overlap import ahead, overlapped


def counted(up_to: int, taken: list[int]) -> Iterator[int]:
    for n in range(up_to):
        taken.append(n)
        yield n


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_come_in_order_and_few_items_wait(workers: int) -> None:
    taken: list[int] = []

    def square(n: int) -> int:
        time.sleep(0.002 * (n % 3))
        return n * n

    for place, result in enumerate(overlapped(square, counted(20, taken), workers)):
        assert result == place**2 and len(taken) <= place + 1 + workers
    assert taken == list(range(20))


def test_two_compute_at_once_with_one_thread_each() -> None:
    both = threading.Barrier(2, timeout=20)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)

        def meet(_: int) -> int:
            both.wait()
            return torch.get_num_threads()

        assert list(overlapped(meet, range(4), 2)) == [1, 1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_raised_comes_out_in_its_place_and_no_thread_stays(workers: int) -> None:
    before = threading.active_count()

    def inverse(n: int) -> float:
        return 1 / (n - 3)

    values = overlapped(inverse, range(9), workers)
    assert [next(values) for _ in range(3)] == [1 / -3, 1 / -2, 1 / -1]
    with pytest.raises(ZeroDivisionError):
        next(values)
    assert threading.active_count() == before


@pytest.mark.parametrize("most", [0, 1, 3])
def test_fetching_ahead_is_bounded_and_ends_as_its_source_does(most: int) -> None:
    before = threading.active_count()
    taken: list[int] = []
    with closing(ahead(counted(100, taken), most)) as items:
        assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
        time.sleep(0.05)
        assert len(taken) <= 5 + most
    assert threading.active_count() == before

    def breaking() -> Iterator[int]:
        yield 1
        raise KeyError("lost")

    items = ahead(breaking(), most)
    assert next(items) == 1
    with pytest.raises(KeyError, match="lost"):
        next(items)
    assert threading.active_count() == before and list(ahead([], most)) == []
