"""Faults made on purpose, seeded: work killed before each of its changes on disk, files damaged at random."""

import gc
import json
import os
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from autolink.errors import UserError
from autolink.files import clear_leftovers
from autolink.pictures import PictureError

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
"""Audit events of what changes a disk, besides opening a file to write."""

SECONDS, MEMORY = 60, 2**32
"""What reading one damaged file may take."""

Work = Callable[[Path], Any]
Change = Callable[[bytes, random.Random], bytes]


def killed_before(change: int, work: Work, folder: Path) -> bool:
    """Do some work in a fork and kill it before one of the changes it makes below a folder; whether it came so far."""
    changes = count()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in CHANGES or writes) and str(folder) in str(arguments[0]) and next(changes) == change:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        sys.addaudithook(watch)
        work(folder)

    return os.WIFSIGNALED(os.waitpid(_forked(watched), 0)[1])


def crashes(work: Work, folder: Path, before: Work = lambda folder: None, every: int = 1) -> Iterator[int]:
    """Kill some work before each change that it makes on disk, or some, after the same preparation every time."""
    for change in count(0, every):
        shutil.rmtree(folder, ignore_errors=True)
        before(folder)
        if not killed_before(change, work, folder):
            assert change > 10
            return
        clear_leftovers.cache_clear()  # what comes next stands for another process
        yield change


def damaged(content: bytes, dice: random.Random) -> bytes:
    """One to four changes: bits flipped, parts cut off, zeroed, moved or doubled, numbers made extreme."""
    data = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        at = dice.randrange(min(len(data), dice.choice((64, 4096, len(data) or 1))) or 1)
        part = slice(at, at + dice.choice((1, 2, 4, 16, 64, 512)))
        kind = dice.choice(("flip", "flip", "flip", "cut", "move", "zero", "extreme", "drop", "double"))
        if kind == "flip":
            for n in dice.choices(range(len(data)), k=dice.choice((1, 2, 8, 32))) if data else ():
                data[n] ^= 1 << dice.randrange(8)
        elif kind == "cut":
            del data[at:]
        elif kind == "move":
            data[part] = data[: len(data[part])]
        elif kind == "zero":
            data[part] = bytes(len(data[part]))
        elif kind == "extreme":
            data[at : at + 4] = dice.choice(
                (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\xff\x7f")
            )
        elif kind == "drop":
            del data[part]
        else:
            data[at:at] = data[part] * dice.choice((1, 3))
    return bytes(data)


HOSTILE: tuple[Any, ...] = (
    10**9, 10**6, 65536, 0, -1, -(10**9), 1e308, float("nan"), float("inf"), 0.5, "x", "", None, True, [], {}, [[]],
    [0], [-1], [10**6] * 3, ["a", "b", "c"], [1.5, 2, 2], [8] * 60, [None], {"a": 1}, 2**63, 2**64, 10**400,
    "../../etc", "\0", "[3000]",
)  # fmt: skip
"""Values that JSON may hold where others belong; the last becomes lists in lists."""


def hostile_json(content: bytes, dice: random.Random) -> bytes:
    """JSON that is whole but has a hostile value, an entry too many or one too few."""
    values = json.loads(content)
    place = values
    while place:
        key = dice.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], (dict, list)) and place[key] and dice.random() < 0.7:
            place = place[key]
            continue
        kind = dice.random()
        if kind < 0.8:
            place[key] = dice.choice(HOSTILE)
        elif kind < 0.9 and isinstance(place, dict):
            place[dice.choice(("extra", "__class__", "size", "keypoints"))] = dice.choice(HOSTILE)
        else:
            del place[key]
        break
    return json.dumps(values).replace('"[3000]"', "[" * 3000 + "]" * 3000).encode()


def hostile_cells(content: bytes, dice: random.Random) -> bytes:
    """A table that is whole but has hostile cells."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    for row in dice.choices(rows, k=dice.choice((1, 3))):
        row[dice.randrange(len(row))] = dice.choice(
            (
                "nan",
                "-inf",
                "1e999",
                "-1e6",
                "",
                " ",
                "x",
                "1_0",
                "٣",
                '"',
                '"a',
                "0x10",
                "../x",
                "\0",
                "test",
                "1" * 5000,
            )
        )
    return "\n".join(",".join(row) for row in rows).encode()


def verdicts(read: Callable[[], object], path: Path, contents: Sequence[bytes]) -> list[str]:
    """What becomes of each content of a file, read in a fork: as `verdict` has it, or what ended the fork."""
    found: list[str] = []
    while len(found) < len(contents):
        receiver, sender = os.pipe()
        rest = contents[len(found) :]

        def read_all(rest: Sequence[bytes] = rest, sender: int = sender) -> None:
            _limit(resource.RLIMIT_AS, psutil.Process().memory_info().vms + MEMORY)
            _limit(resource.RLIMIT_CORE, 0)
            for content in rest:
                signal.alarm(SECONDS)
                path.write_bytes(content)
                os.write(sender, json.dumps(verdict(read)).encode() + b"\n")

        child = _forked(read_all)
        os.close(sender)
        with os.fdopen(receiver) as lines:
            found += [json.loads(line) for line in lines]
        status = os.waitpid(child, 0)[1]
        assert status == 0 or os.WIFSIGNALED(status)
        if status:
            number = os.WTERMSIG(status)
            found.append(f"{SECONDS} s" if number == signal.SIGALRM else f"signal {number}")
    return found


def _forked(work: Callable[[], None]) -> int:
    """The process that does some work, without a word.

    What is garbage here stays alive there: a decoder from an earlier test would wait for threads that no fork has.
    """
    gc.collect()
    gc.freeze()
    process = os.fork()
    if process:
        gc.unfreeze()
        return process
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        work()
        code = 0
    finally:
        os._exit(code)


def verdict(read: Callable[[], object]) -> str:
    """`read`, `told` (one sentence of ours), or the exception that a user would see as a traceback."""
    try:
        read()
    except (UserError, PictureError):
        return "told"
    except OSError as error:
        return "told" if error.filename and error.errno else f"{error!r:.200}"
    except BaseException as error:  # noqa: BLE001  # it is the fault that is looked for
        return f"{error!r:.200}"
    return "read"


def _limit(what: int, most: int) -> None:
    resource.setrlimit(what, (most, resource.getrlimit(what)[1]))
