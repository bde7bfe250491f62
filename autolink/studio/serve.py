"""Serve the studio to the browser of this machine: autolink studio [--port N] [--folder DIR]."""

import socket
import sys
import threading
import time
import webbrowser
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import tyro

from autolink.errors import UsageError, command

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class StudioConfig:
    """Serve the studio, a page for the browser of this machine: drag keypoints, discover, transfer, train, report."""

    folder: Path = Path("studio")
    """Where uploads, results and runs are kept."""
    port: int = 8642
    """Port on 127.0.0.1, which other machines cannot reach; 0 takes any that is free."""
    gan: str = "pets-gan"
    """The GAN of the page Animals: a checkpoint folder, the name of a bundled one, or hf:owner/name."""
    browser: bool = True
    """Open the page at once."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise UsageError(f"--port is 0 to 65535, got {self.port}")
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"--folder {self.folder} is a file; give a folder")


def listening(port: int) -> socket.socket:
    """A socket on this machine's own address.

    Raises:
        UsageError: the port is taken or not allowed.
    """
    listener = socket.socket()
    if sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen()  # whoever is early waits until the page is ready
    except OSError as error:
        listener.close()
        raise UsageError(f"--port {port}: {error.strerror}; choose another, or 0 for any that is free") from None
    return listener


def run(config: StudioConfig) -> None:
    """The command: listen, say where, serve until Ctrl-C."""
    for package in ("fastapi", "uvicorn", "websockets"):
        if find_spec(package) is None:
            raise UsageError(f"the studio needs {package}: pip install 'autolink-keypoints[studio]'")
    threading.Thread(target=_import_networks, daemon=True).start()
    import uvicorn

    from autolink.studio.app import Studio, make_app
    from autolink.studio.live import LARGEST_PACKET

    with listening(config.port) as listener:
        port = int(listener.getsockname()[1])
        address = f"http://{LOOPBACK}:{port}/"
        app = make_app(Studio(config.folder, config.gan, config.device), port)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                ws="websockets-sansio",
                ws_max_size=LARGEST_PACKET,
                timeout_graceful_shutdown=2,
            )
        )
        print(f"the studio is at {address} (Ctrl-C ends it); its files are in {config.folder}", flush=True)
        if config.browser:
            threading.Thread(target=_open, args=(server, address), daemon=True).start()
        server.run(sockets=[listener])


def _import_networks() -> None:
    """Begin with what takes longest, beside all else."""
    import autolink.generation.gan  # noqa: F401


def _open(server: object, address: str) -> None:
    while not getattr(server, "started", False):
        time.sleep(0.05)
    webbrowser.open(address)


def main() -> None:
    """Entry point of `autolink studio`."""
    command(lambda: run(tyro.cli(StudioConfig)))


if __name__ == "__main__":
    main()
