"""How long work reports how far it is: commands show bars, the library is silent unless it is asked."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from tqdm import tqdm

T = TypeVar("T")


class Progress(Protocol):
    """Passes items on and may show how many have gone by."""

    def __call__(self, items: Iterable[T], total: int | None, doing: str, /) -> Iterator[T]:
        """`total` items are expected, None if it is not known; `doing` says what is done with them."""
        ...


def silent(items: Iterable[T], total: int | None, doing: str, /) -> Iterator[T]:
    """Shows nothing."""
    del total, doing
    return iter(items)


def bar(items: Iterable[T], total: int | None, doing: str, /) -> Iterator[T]:
    """A bar on standard error."""
    return iter(tqdm(items, total=total, unit="frame", desc=doing, dynamic_ncols=True))
