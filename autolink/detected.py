"""What `autolink detect` leaves in a folder: keypoints.json, written as it comes, and overlays, replaced together."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autolink.errors import UsageError
from autolink.files import atomic_path, parse_json
from autolink.pictures import DAMAGE

RESULT = "keypoints.json"

_OVERLAY = re.compile(r'\s*"(image|video|overlays)": (".*"|false),?\n')
"""The lines of a result that tell whose overlay lies beside it, and whether there are any."""


def write_result(path: Path, head: dict[str, Any], name: str, items: Iterable[Any], tail: dict[str, Any]) -> int:
    """Write one JSON object, head, a list and tail, its items one by one as they come: how many.

    `tail` is looked at when the list is over.
    """
    count = 0
    with atomic_path(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head, indent=1)[:-2] + f',\n "{name}": [')
        for count, item in enumerate(items, 1):
            file.write((",\n" if count > 1 else "\n") + "  " + json.dumps(item, indent=1).replace("\n", "\n  "))
        file.write("\n ]" + ("," + json.dumps(tail, indent=1)[1:] if tail else "\n}") + "\n")
    return count


def replace_result(new: Path, out: Path, source: Path) -> None:
    """Move a finished result to where it belongs; of what is there, only an earlier result's own files go.

    keypoints.json comes first: it says which files are ours, whenever the process is killed.

    Raises:
        UsageError: an overlay would replace the input.
    """
    files = [file.relative_to(new) for file in new.rglob("*") if file.is_file()]
    files.sort(key=lambda name: name != Path(RESULT))
    for name in files:
        if (out / name).exists() and (out / name).samefile(source):
            raise UsageError(f"--out {out}: the overlay {name} would replace the input; choose another folder")
    for earlier in _earlier_files(out / RESULT):
        old = out / earlier
        if old.is_file() and old.resolve().is_relative_to(out) and not old.samefile(source):
            old.unlink()
            for folder in old.relative_to(out).parents:
                if folder.name and not any((out / folder).iterdir()):
                    (out / folder).rmdir()
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(out / name)


def _earlier_files(result: Path) -> list[str]:
    """The overlays that an earlier result names; read line by line, for it may be long."""
    found = []
    try:
        with result.open(encoding="utf-8") as lines:
            for named in filter(None, map(_OVERLAY.fullmatch, lines)):
                if named[1] == "overlays":
                    return []
                name = parse_json(named[2])
                found.append(f"{Path(name).stem}.mp4" if named[1] == "video" else name)
    except DAMAGE:
        return []
    return found
