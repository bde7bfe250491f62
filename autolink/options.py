"""Reading a training command's options: presets, groups, and the configuration of a run that is resumed."""

import re
import sys
from collections.abc import Mapping
from dataclasses import field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import tyro

from autolink.data import RENDERED
from autolink.data.published import PUBLISHED
from autolink.data.shards import names_shards
from autolink.errors import UsageError
from autolink.run_config import GROUPS, RunConfig, option, option_groups
from autolink.run_state import check_same_run, read_run_config

BUILT_IN = frozenset({"", *RENDERED, *PUBLISHED})
"""Values of --data that are no path."""

Config = TypeVar("Config", bound=RunConfig)


def read_options(
    presets: Mapping[str, Config], help_text: str, arguments: list[str], needed: Mapping[str, str]
) -> Config:
    """The configuration of a run: defaults from --preset or, on --resume, from the run itself.

    Args:
        presets: defaults by name; the first is the default.
        help_text: what --help says first.
        arguments: the command line.
        needed: fields that name a folder and that a preset may leave to the user, and what that folder holds.

    Raises:
        UsageError: an option has a value that cannot be or is missing, or --resume comes with another configuration.
    """
    first = next(iter(presets.values()))
    chosen = presets.get(_peek(arguments, "--preset") or "", first)
    started = None
    if "--resume" in arguments and not {"-h", "--help"} & set(arguments):
        out = _peek(arguments, "--out")
        started = read_run_config(first, Path(out) if out else chosen.run_folder)
        chosen = replace(started, resume=True)
    try:
        config = parsed(chosen, help_text, arguments)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if config.data not in BUILT_IN and (
        Path(config.data).exists() or names_shards(config.data)
    ):  # so that --resume works from anywhere
        config = replace(config, data=str(Path(config.data).absolute()))
    if started:
        check_same_run(config, started)
    for name, what in needed.items():
        if not getattr(config, name):
            raise UsageError(f"--preset {config.preset} needs {option(name)} FOLDER, {what}")
    return config


def parsed(default: Config, help_text: str, arguments: list[str]) -> Config:
    """A configuration with the options given; --help shows its groups, each with a title.

    Raises:
        ValueError: values that cannot be.
    """
    groups = {
        title: group(**{f.name: getattr(default, f.name) for f in fields(group)})
        for title, group in option_groups(type(default)).items()
    }
    shape = {"model": default.model} if hasattr(default, "model") else {}
    view = {title: value for title in GROUPS for value in [(groups | shape).get(title)] if value is not None}
    kind = make_dataclass("Grouped", [(title, type(value), field(default=value)) for title, value in view.items()])
    given: Any = tyro.cli(kind, args=arguments, description=help_text, config=(tyro.conf.OmitArgPrefixes,))
    changed = {f.name: getattr(group, f.name) for group in map(vars(given).get, groups) for f in fields(group)}
    return replace(default, **changed, **({"model": given.model} if shape else {}))


def help_text(kind: type[RunConfig], examples: tuple[str, str], presets: Mapping[str, str]) -> str:
    """The head of --help: what the command does, two examples, and what each preset is for."""
    lines = [kind.__doc__ or "", "", "Examples:", *(f"  {as_started(example)}" for example in examples)]
    return "\n".join([*lines, "", "Presets:", *(f"  {name}: {note}" for name, note in presets.items())])


def as_started(command: str) -> str:
    """A training's command in the words of whoever typed `autolink train`: an installed AutoLink has no clone."""
    if not sys.argv[0].startswith("autolink "):
        return command
    return re.sub(r"^(accelerate launch|python) \S+\.py", sys.argv[0], command)


def _peek(arguments: list[str], option: str) -> str | None:
    """An option's value before the command line is parsed."""
    for n, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == option:
            return value or (arguments[n + 1] if n + 1 < len(arguments) else "")
    return None
