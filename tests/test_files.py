"""Whole or not at all, under names that nobody can foresee; weights by their header."""

import errno
import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autolink import AutoLink
from autolink.errors import UserError
from autolink.files import (
    atomic_folder,
    atomic_path,
    clear_leftovers,
    parse_json,
    read_tensors,
    save_tensors,
    temporary_folder,
    tensor_shapes,
    write_text,
)


def test_a_file_appears_when_its_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(RuntimeError), atomic_path(path) as beside:
        beside.write_text("half")
        assert beside.suffix == ".json" and not path.exists()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    write_text(path, "first")
    write_text(path, "secönd")
    assert path.read_text(encoding="utf-8") == "secönd" and list(tmp_path.iterdir()) == [path]
    with atomic_path(tmp_path / "none") as beside:
        beside.unlink()
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_names_differ_and_no_link_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with atomic_path(tmp_path / "a") as first, atomic_path(tmp_path / "a") as second:
        assert first != second
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    with atomic_path(tmp_path / "b") as foreseen:
        pass
    foreseen.symlink_to(victim)
    with pytest.raises(FileExistsError, match=r"'.*/b'"), atomic_path(tmp_path / "b"):
        pass
    assert victim.read_text() == "precious"


def test_errors_name_what_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        write_text(tmp_path / "none" / "a", "")
    assert missing.value.filename == str(tmp_path / "none" / "a")
    with pytest.raises(OSError) as full, atomic_path(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert full.value.filename == str(tmp_path / "a")
    with pytest.raises(OSError) as other, atomic_path(tmp_path / "a"):
        (tmp_path / "input").read_text()
    assert other.value.filename == str(tmp_path / "input")


def test_leftovers_of_the_dead_are_cleared_and_of_the_living_are_not(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from autolink.files import atomic_path, atomic_folder\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "with atomic_path(folder / 'a.txt'), atomic_folder(folder / 'b'): os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_path(tmp_path / "living") as beside:
        clear_leftovers.cache_clear()
        clear_leftovers(tmp_path)
        assert list(tmp_path.iterdir()) == [beside]


def test_a_folder_appears_whole_or_its_files_are_replaced(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out") as beside:
        (beside / "a").write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    for content in ("first", "second"):
        with atomic_folder(tmp_path / "out") as beside:
            (beside / "deep").mkdir()
            (beside / "deep" / content).write_text(content)
            (beside / "a").write_text(content)
    assert (tmp_path / "out" / "a").read_text() == "second"
    assert sorted(p.name for p in (tmp_path / "out" / "deep").iterdir()) == ["first", "second"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_tensors_are_refused_by_their_header(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_tensors({"a": torch.ones(2, 3), "b": torch.zeros(1)}, path)
    assert tensor_shapes(path) == {"a": (2, 3), "b": (1,)}
    torch.testing.assert_close(read_tensors(path)["a"], torch.ones(2, 3))
    for shapes, said in (
        ({"a": (2, 3)}, "it holds b"), ({"a": (2, 3), "b": (1,), "c": (1,)}, "it lacks c"),
        ({"a": (3, 2), "b": (1,)}, r"a is \(2, 3\) instead of \(3, 2\)"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            read_tensors(path, shapes)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged"):
        read_tensors(path)
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(UserError, match="is damaged"):
        tensor_shapes(path)


@pytest.mark.parametrize(
    "change", [{"decoder_channels": [4, 8, 2**28]}, {"detector_channels": [2**14, 2**14, 8]}, {"keypoints": 2**18}]
)
def test_a_configuration_of_another_size_allocates_nothing(
    change: dict[str, object], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """2**60 bytes of weights would be asked for if the network were built before its weights are looked at."""
    folder = tmp_path / "huge"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes((tiny_checkpoint / "model.safetensors").read_bytes())
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"does not fit its config\.json: it asks for a tensor of"):
        AutoLink.from_pretrained(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, "{", "", b"\xff\xfe\x00"])
def test_damaged_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)
    assert parse_json('{"a": [1, 2.5]}') == {"a": [1, 2.5]}


def test_a_full_disk_names_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OSError) as told, temporary_folder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")  # of a write, which knows no name
    assert told.value.filename == str(tmp_path / "out")
