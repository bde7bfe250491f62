"""What a run writes down as it goes: scalars for people and for TensorBoard."""

import json
from pathlib import Path

import numpy as np

from autolink.pretrained import write_text


class Log:
    """Scalars to metrics.jsonl and TensorBoard, on the main process."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = folder / "metrics.jsonl"
        if path.exists():  # a run that was killed had gone on beyond its checkpoint
            lines = [line for line in path.read_text().splitlines() if _step(line) <= step]
            write_text(path, "".join(line + "\n" for line in lines))
        self.file = path.open("a")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line."""
        self.file.write(json.dumps({"step": step, **{name: round(v, 6) for name, v in values.items()}}) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish both files."""
        self.file.close()
        self.board.close()


def _step(line: str) -> float:
    """The step of a line of metrics.jsonl; a line that was cut is beyond all."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return np.inf
