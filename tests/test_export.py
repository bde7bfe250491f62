import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from autolink import AutoLink, export
from autolink.export import ExportConfig


def test_the_file_finds_what_torch_finds(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "detector.onnx"
    export.run(ExportConfig(str(tiny_checkpoint), out))
    assert [path.name for path in tmp_path.iterdir()] == ["detector.onnx"]
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    model = AutoLink.from_pretrained(tiny_checkpoint)
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for B in (1, 2, 5):
        (found,) = session.run(["keypoints"], {"images": images[:B].numpy()})
        np.testing.assert_allclose(found, model.detect(images[:B]).numpy(), atol=1e-4)
    told = session.get_modelmeta().custom_metadata_map
    assert int(told["size"]) == 32 and float(told["thickness"]) == model.config.thickness and told["fit"] == "stretch"
    np.testing.assert_allclose(json.loads(told["edge_weights"]), model.edge_weights.tolist(), rtol=1e-6)


def test_what_cannot_be_written_is_told(tiny_checkpoint: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "there.onnx").write_text("mine")
    assert "--overwrite" in fails(2, lambda: export.run(ExportConfig(str(tiny_checkpoint), tmp_path / "there.onnx")))
    assert "ends in .onnx" in fails(2, lambda: export.run(ExportConfig(str(tiny_checkpoint), tmp_path / "a.pt")))
    said = fails(1, lambda: export.run(ExportConfig("faces-transfer", tmp_path / "a.onnx")))
    assert "stage_one" in said and not (tmp_path / "a.onnx").exists()


def test_a_missing_package_is_named_with_its_extra(tiny_checkpoint: Path, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["onnx"] = None
sys.argv = ["autolink", "export", {str(tiny_checkpoint)!r}, {str(tmp_path / "a.onnx")!r}]
from autolink.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "autolink-keypoints[onnx]" in done.stderr and "Traceback" not in done.stderr
