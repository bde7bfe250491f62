"""Trainings in several processes on gloo, as torchrun starts them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def launched(*arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*launcher, *arguments], capture_output=True, text=True, check=False, timeout=300, env=environment
    )


def stopped_by_one(folder: Path) -> Path:
    """A script that trains stage one and is stopped by SIGTERM to the second process; it prints the exit codes."""
    script = folder / "stopped.py"
    script.write_text(
        "import signal, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from autolink import loop, train\n"
        "loop.POLL = 2\n"
        "one_step = train.Trainer.train_step\n"
        "def step(self):\n"
        "    if self.step == 2 and self.accelerator.process_index == 1:\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "    return one_step(self)\n"
        "train.Trainer.train_step = step\n"
        "try:\n"
        "    train.run(sys.argv[1:])\n"
        "except SystemExit as stop:\n"
        "    print('code', stop.code)\n"
    )
    return script
