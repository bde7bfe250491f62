"""Execute notebooks and keep what they show: python -m recipes.notebooks docs/tour.ipynb.

Needs the extra `docs`. Repeat it for those of docs/ when a bundled checkpoint changes.
"""

import io
import os
import re
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import nbformat
import tyro
from nbclient import NotebookClient
from PIL import Image

from autolink.errors import command
from autolink.files import write_text


def execute(path: Path, folder: Path, replaced: dict[str, str] | None = None) -> Any:
    """The notebook with the outputs of its cells, executed in a folder; `replaced` changes text of its cells before."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for old, new in (replaced or {}).items():
            cell.source = cell.source.replace(old, new)
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    clone = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PATH": commands, "PYTHONPATH": clone, "ACCELERATE_USE_CPU": "1"}
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, resources=where, startup_timeout=600)
    client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            _as_jpeg(output.get("data", {}))
            if "text" in output:
                output.text = re.sub(r"\x1b\[[0-9;]*m", "", output.text).strip("\n") + "\n"
    return notebook


def _as_jpeg(data: dict[str, Any]) -> None:
    """A picture as a tenth of the bytes."""
    if "image/png" in data:
        buffer = io.BytesIO()
        picture = Image.open(io.BytesIO(b64decode(data.pop("image/png")))).convert("RGB")
        picture.save(buffer, "JPEG", quality=72, optimize=True)
        data["image/jpeg"] = b64encode(buffer.getvalue()).decode()


def run(notebooks: Annotated[tuple[Path, ...], tyro.conf.Positional]) -> None:
    """Execute notebooks, each in an empty folder, and write them back.

    Args:
        notebooks: The .ipynb files.
    """
    for path in notebooks:
        with TemporaryDirectory() as folder:
            write_text(path, nbformat.writes(execute(path, Path(folder))) + "\n")


if __name__ == "__main__":
    command(lambda: tyro.cli(run))
