"""Pictures at once: a WebSocket on which, in each slot, the newest request wins."""

import asyncio
import json
import struct
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from autolink.errors import UserError
from autolink.files import parse_json
from autolink.studio.jobs import Job, Jobs
from autolink.studio.pictures import public

MOST_SLOTS = 64
LARGEST_PACKET = 4 * 2**20

FIRST = "picture"
"""The slot that goes before all others."""

Header = dict[str, Any]
Answer = Callable[[Header, bytes], tuple[Header, bytes]]
"""From a request and its bytes to the reply and its bytes."""


def packed(header: Header, payload: bytes = b"") -> bytes:
    """A packet: four bytes with the header's length, the header as JSON, then bytes such as a picture."""
    text = json.dumps(header).encode()
    return struct.pack(">I", len(text)) + text + payload


def unpacked(packet: bytes) -> tuple[Header, bytes]:
    """The inverse of `packed`.

    Raises:
        ValueError: it is none.
    """
    if not 4 <= len(packet) <= LARGEST_PACKET:
        raise ValueError("a packet has 4 bytes to 4 MB")
    (length,) = struct.unpack(">I", packet[:4])
    header = parse_json(packet[4 : 4 + length])
    if not isinstance(header, dict) or not isinstance(header.get("slot"), str):
        raise ValueError("a packet's header names its slot")
    return header, packet[4 + length :]


class Line:
    """One page's connection."""

    def __init__(self, socket: WebSocket, answer: Answer, jobs: Jobs, executor: Executor) -> None:
        self.socket, self.answer, self.jobs, self.executor = socket, answer, jobs, executor
        self.slots: dict[str, tuple[Header, bytes]] = {}
        self.news: dict[str, Job] = {}
        self.wake = asyncio.Event()

    async def serve(self) -> None:
        """Talk until the page goes."""
        await self.socket.accept()
        self.jobs.listeners.add(self.hear)
        self.news = dict(self.jobs.jobs)
        self.wake.set()
        parts = [asyncio.create_task(part) for part in (self._read(), self._write())]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        except WebSocketDisconnect:
            pass
        except ValueError as error:
            await self.socket.close(1003, str(error))
        finally:
            self.jobs.listeners.discard(self.hear)
            for part in parts:
                part.cancel()

    async def _read(self) -> None:
        """Take requests, the newest in the place of older ones.

        Raises:
            ValueError: a packet is none.
            WebSocketDisconnect: the page has gone.
        """
        while True:
            header, payload = unpacked(await self.socket.receive_bytes())
            if header["slot"] in self.slots or len(self.slots) < MOST_SLOTS:
                self.slots[header["slot"]] = header, payload
                self.wake.set()

    def hear(self, job: Job) -> None:
        """Note that a job has news."""
        self.news[job.id] = job
        self.wake.set()

    async def _write(self) -> None:
        """Send what has happened to jobs, and answers, that of the slot `FIRST` before others."""
        loop = asyncio.get_running_loop()
        while True:
            await self.wake.wait()
            while self.news:
                _, job = self.news.popitem()
                await self.socket.send_bytes(packed({"slot": "job", "job": public(job, self.jobs.session)}))
            if not self.slots:
                self.wake.clear()
                continue
            slot = FIRST if FIRST in self.slots else next(iter(self.slots))
            header, payload = self.slots.pop(slot)
            try:
                reply, result = await loop.run_in_executor(self.executor, self.answer, header, payload)
            except (UserError, ValueError) as error:
                reply, result = {"error": str(error)}, b""
            await self.socket.send_bytes(packed({**reply, "slot": slot, "id": header.get("id")}, result))
