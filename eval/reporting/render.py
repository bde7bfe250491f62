"""Reports as HTML, comparisons and summaries as Markdown; nothing of a report gets into a page unescaped."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from autolink.draw import Image
from autolink.errors import UserError
from autolink.eval.reporting import charts
from autolink.eval.reporting.compare import Comparison
from autolink.eval.reporting.content import Report
from autolink.eval.results import aligned
from autolink.files import write_text

BEGIN, END = "<!-- results -->", "<!-- /results -->"
"""The lines of a page between which `put_into` writes."""

TEMPLATES = FileSystemLoader(Path(__file__).with_name("templates"), encoding="utf-8")


def report_page(report: Report, pictures: Mapping[str, Image]) -> str:
    """The report as one HTML file that needs nothing else, its pictures by their file names embedded."""
    encoded = {file: base64.b64encode(imageio.imwrite("<bytes>", p, extension=".png")) for file, p in pictures.items()}
    sources = {file: f"data:image/png;base64,{png.decode()}" for file, png in encoded.items()}
    page = _environment(autoescape=True).get_template("report.html.j2")
    return page.render(report=report, sources=sources, charts=charts)


def comparison_text(comparison: Comparison) -> str:
    """The comparison as Markdown."""
    return _markdown("comparison.md.j2", comparison=comparison)


def summary_text(reports: Sequence[Report]) -> str:
    """The headline figures of all checkpoints as Markdown, a table for each kind."""
    found = [(report, checkpoint) for report in reports for checkpoint in report.checkpoints if checkpoint.headlines]
    kinds = dict.fromkeys(checkpoint.kind_name for _, checkpoint in found)
    tables = {kind: [entry for entry in found if entry[1].kind_name == kind] for kind in kinds}
    return _markdown("summary.md.j2", tables=tables)


def put_into(path: Path, text: str) -> None:
    """Replace what stands between the lines BEGIN and END of a Markdown file.

    Raises:
        UserError: the file cannot be read, or does not have each line once, in this order.
    """
    try:
        old = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"--into {path} cannot be read: {error}") from None
    before, begin, rest = old.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not begin or not end or BEGIN in rest or END in before + after:
        raise UserError(f"--into {path} needs one line {BEGIN} and, below it, one line {END}; the table goes between")
    write_text(path, f"{before}{BEGIN}\n{text}{END}\n{after}")


def escaped(value: Any) -> Markup:
    """Any value as one line of Markdown that shows it as it is: no markup, no HTML, no link, no second line."""
    if isinstance(value, Markup):
        return value
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)
    text = text.replace("://", ":\\//").replace("www.", "www\\.")
    text = re.sub(r"^([-+#=])(?=[-+#=\s]|$)", r"\\\1", text)
    return Markup(re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text))  # noqa: S704  # just escaped


def code(value: str) -> Markup:
    """A piece of code in a line of Markdown."""
    plain = value.isprintable() and not set("`<>&") & set(value)
    return Markup(f"`{value}`" if plain else f"<code>{escaped(value)}</code>")  # noqa: S704  # escaped or harmless


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[int] = ()) -> Markup:
    """A Markdown table whose columns also stand below each other as plain text; columns of numbers are set right."""
    cells = aligned([[escaped(cell) for cell in row] for row in (head, *rows)], frozenset(numbers))
    rule = [f"{'-' * (len(cell) - 1)}{':' if n in numbers else '-'}" for n, cell in enumerate(cells[0])]
    return Markup("\n".join(f"| {' | '.join(row)} |" for row in [cells[0], rule, *cells[1:]]))  # noqa: S704  # all cells are escaped


def _environment(**options: Any) -> Environment:
    return Environment(loader=TEMPLATES, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options)  # noqa: S701  # says who calls


def _markdown(template: str, **values: Any) -> str:
    environment = _environment(autoescape=False, finalize=escaped)
    environment.filters["code"] = code
    environment.globals["table"] = table
    return environment.get_template(template).render(values).rstrip() + "\n"
