"""Long work: one command of autolink after another, each a process that can be watched and stopped."""

import asyncio
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from autolink.errors import UserError
from autolink.files import parse_json, write_text
from autolink.studio.session import IDENTITY, Session, new_identity

State = Literal["waiting", "running", "done", "failed", "stopped"]

PATIENCE = 20.0
"""Seconds that a process gets to save and end before it is killed."""

WAITING_AT_MOST = 20

BAR = re.compile(r"(?:(?P<doing>[^:|%]+): *)?(?P<percent>\d+)%\|.*?(?P<done>\d+)/(?P<total>\d+)[^<]*<(?P<left>[\d:]+)?")
"""What tqdm writes of work whose length is known."""

OPEN_BAR = re.compile(r"(?P<doing>[^:|%]+): (?P<done>\d+)\w+ \[")
"""The same where it is not."""


@dataclass
class Job:
    """A command, and how far it is."""

    id: str
    kind: str
    """transfer, train, estimate or report."""
    title: str
    arguments: list[str]
    """Of `autolink`."""
    created: float
    state: State = "waiting"
    doing: str = ""
    progress: float | None = None
    """Share that is done, where it is known."""
    left: str = ""
    """Time left, as tqdm writes it."""
    started: float = 0.0
    ended: float = 0.0
    error: str = ""
    notes: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """Lines that it printed, the last few."""
    shown: dict[str, Any] = field(default_factory=dict)
    """What the page wants to know of it later, such as its uploads."""

    def hear(self, line: str) -> None:
        """Take in a line of the command's standard error."""
        if bar := BAR.search(line):
            total = int(bar["total"])
            self.doing, self.left = (bar["doing"] or "").strip() or "working", bar["left"] or ""
            self.progress = int(bar["done"]) / total if total else None
        elif bar := OPEN_BAR.search(line):
            self.doing, self.progress = f"{bar['doing'].strip()}, {bar['done']} so far", None
        elif line.startswith("error: "):
            self.error = line.removeprefix("error: ")
        elif line.startswith("warning: "):
            self.notes.append(line.removeprefix("warning: "))

    def told(self, line: str) -> None:
        """Take in a line of its standard output."""
        self.said = [*self.said[-19:], line]


Listener = Callable[[Job], None]


class Jobs:
    """The queue of one session; it survives the server, and what was cut off with that is told as stopped."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.jobs: dict[str, Job] = {}
        self.listeners: set[Listener] = set()
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        self.process: asyncio.subprocess.Process | None = None
        for path in sorted(session.jobs.glob("*/job.json"), key=lambda p: p.stat().st_mtime):
            job = _read(path)
            if job and IDENTITY.fullmatch(path.parent.name):
                if job.state in ("waiting", "running"):
                    job.state, job.error = "stopped", "the studio was closed while it ran"
                self.jobs[job.id] = job

    def folder(self, job: Job) -> Path:
        """Where a job writes."""
        return self.session.jobs / job.id

    def find(self, identity: str) -> Job:
        """A job.

        Raises:
            UserError: there is none.
        """
        if identity not in self.jobs:
            raise UserError("there is no such job; it may have been deleted")
        return self.jobs[identity]

    def add(
        self, kind: str, title: str, arguments: Callable[[Path], Sequence[str]], shown: dict[str, Any] | None = None
    ) -> Job:
        """Put a command into the queue; `arguments` makes its options from the job's folder.

        Raises:
            UserError: too many are waiting.
        """
        if sum(job.state == "waiting" for job in self.jobs.values()) >= WAITING_AT_MOST:
            raise UserError(f"{WAITING_AT_MOST} jobs are waiting already; let some of them end or stop them")
        identity = new_identity()
        folder = self.session.jobs / identity
        folder.mkdir()
        job = Job(identity, kind, title, list(arguments(folder)), time.time(), shown=shown or {})
        self.jobs[identity] = job
        self.queue.put_nowait(identity)
        self.tell(job)
        return job

    def again(self, job: Job, arguments: Sequence[str]) -> Job:
        """Put an ended job into the queue once more, with other options."""
        if job.state in ("waiting", "running"):
            raise UserError("it has not ended yet")
        job.arguments, job.state, job.error, job.notes, job.progress = list(arguments), "waiting", "", [], None
        self.queue.put_nowait(job.id)
        self.tell(job)
        return job

    def tell(self, job: Job, keep: bool = True) -> None:
        """Let every page know how far a job is, and write it down if it should be kept."""
        if keep:
            write_text(self.folder(job) / "job.json", json.dumps(asdict(job)))
        for listener in list(self.listeners):
            listener(job)

    async def work(self) -> None:
        """Run what is queued, one after the other, for ever."""
        while True:
            job = self.jobs[await self.queue.get()]
            if job.state == "waiting":
                await self._run(job)

    async def _run(self, job: Job) -> None:
        job.state, job.started, job.doing = "running", time.time(), "starting"
        self.tell(job)
        words = [sys.executable, "-m", "autolink.cli", *job.arguments]
        pipe = asyncio.subprocess.PIPE
        self.process = process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, cwd=self.session.folder,
            start_new_session=True,
        )  # fmt: skip
        with suppress(psutil.Error):  # so that dragging stays fluid meanwhile
            psutil.Process(process.pid).nice(5 if sys.platform != "win32" else psutil.BELOW_NORMAL_PRIORITY_CLASS)
        try:
            assert process.stdout and process.stderr
            await asyncio.gather(
                self._listen(job, process.stderr, job.hear), self._listen(job, process.stdout, job.told)
            )
            code = await process.wait()
        except asyncio.CancelledError:  # the studio is closed
            await self._end(process)
            job.state, job.error, job.ended = "stopped", "the studio was closed while it ran", time.time()
            self.tell(job)
            raise
        finally:
            self.process = None
        job.ended, job.left = time.time(), ""
        if job.state == "running":
            job.state = "done" if code == 0 else "failed"
        if job.state == "done":
            job.progress, job.doing = 1.0, ""
        if job.state == "failed" and not job.error:
            job.error = f"the command ended with code {code} without a word; run it in a terminal to see more"
        self.tell(job)

    async def _listen(self, job: Job, stream: asyncio.StreamReader, take: Callable[[str], None]) -> None:
        rest, told = "", 0.0
        while piece := await stream.read(4096):
            *lines, rest = re.split(r"[\r\n]+", rest + piece.decode(errors="replace"))
            for line in filter(None, map(str.strip, lines)):
                take(line)
            if lines and time.monotonic() - told > 0.2:
                self.tell(job, keep=False)
                told = time.monotonic()
        if rest.strip():
            take(rest.strip())

    async def stop(self, job: Job) -> None:
        """Take a job from the queue, or ask its process to save and end."""
        if job.state == "waiting":
            job.state, job.ended = "stopped", time.time()
            self.tell(job)
        elif job.state == "running" and self.process:
            job.state, job.doing = "stopped", "stopping"
            self.tell(job)
            await self._end(self.process)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), PATIENCE)
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()


def _read(path: Path) -> Job | None:
    """A job as it was written down; None if this version cannot read it."""
    try:
        return Job(**parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
