"""Every speed in one table: python -m benchmarks [--authors CLONE] [--fomm CLONE] [--only edge-map step].

What is compared is measured turn by turn within one process, so that a busy machine hits both alike; numbers are
medians, ratios are medians over rounds with the smallest and the largest. About a quarter of an hour on two idle cores.
"""

import tyro

from autolink.errors import command
from benchmarks.table import Benchmarks, main

if __name__ == "__main__":
    command(lambda: main(tyro.cli(Benchmarks)))
