"""Executed notebooks as pages of the site; mkdocs.yml names this file.

Cells are shown as they stand: text, code, and what it printed or drew. Nothing is run, no script is added.
"""

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from autolink.files import parse_json


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Let a notebook be a page."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            files.append(_Notebook(file.src_uri, config.docs_dir, config.site_dir, config.use_directory_urls))
    return files


class _Notebook(File):
    """A file that is a page, though it does not end in .md."""

    def is_documentation_page(self) -> bool:
        return True

    def _get_dest_path(self, use_directory_urls: bool | None = None) -> str:
        return self.src_uri.replace(".ipynb", ".html")


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """The Markdown of a notebook."""
    if not page.file.src_uri.endswith(".ipynb"):
        return markdown
    return "\n\n".join(cell_markdown(cell) for cell in parse_json(markdown)["cells"])


def cell_markdown(cell: dict[str, Any]) -> str:
    """One cell, with its outputs."""
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *(output_markdown(output) for output in cell["outputs"])])


def output_markdown(output: dict[str, Any]) -> str:
    """What a cell printed, gave or drew."""
    data = output.get("data", {})
    for kind in ("image/jpeg", "image/png"):
        if kind in data:
            content = "".join(data[kind]).replace("\n", "")
            return f"![What the cell draws](data:{kind};base64,{content})"
    return f"```text\n{''.join(output.get('text', data.get('text/plain', ''))).rstrip()}\n```"
