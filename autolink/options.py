"""Reading a training command's options: presets, and the configuration of a run that goes on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import tyro

from autolink.config import RunConfig
from autolink.data import RENDERED
from autolink.data.published import PUBLISHED
from autolink.errors import UsageError
from autolink.run_state import check_same_run, read_run_config

BUILT_IN = frozenset({"", *RENDERED, *PUBLISHED})
"""Values of --data that are no path."""

Config = TypeVar("Config", bound=RunConfig)


def read_options(kind: type[Config], presets: Mapping[str, Config], arguments: list[str]) -> Config:
    """The configuration of a run: defaults from --preset or, on --resume, from the run itself.

    Args:
        kind: the dataclass that tyro fills.
        presets: defaults by name; the first is the default.
        arguments: the command line.

    Raises:
        UsageError: an option has a value that cannot be, or --resume comes with another configuration.
    """
    first = next(iter(presets.values()))
    chosen = presets.get(_peek(arguments, "--preset") or "", first)
    started = None
    if "--resume" in arguments and not {"-h", "--help"} & set(arguments):
        out = _peek(arguments, "--out")
        started = read_run_config(first, Path(out) if out else chosen.run_folder)
        chosen = replace(started, resume=True)
    try:
        config = tyro.cli(kind, default=chosen, args=arguments)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if config.data not in BUILT_IN and Path(config.data).exists():  # so that --resume works from anywhere
        config = replace(config, data=str(Path(config.data).absolute()))
    if started:
        check_same_run(config, started)
    return config


def _peek(arguments: list[str], option: str) -> str | None:
    """An option's value before the command line is parsed."""
    for n, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == option:
            return value or (arguments[n + 1] if n + 1 < len(arguments) else "")
    return None
