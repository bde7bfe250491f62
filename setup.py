"""The README as PyPI shows it, its links and pictures as addresses of this version. All else: pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

REPOSITORY = "autolink/autolink-keypoints"
root = Path(__file__).parent
version = re.findall(r'__version__ = "(.+)"', (root / "autolink" / "__init__.py").read_text(encoding="utf-8"))[0]
at = {
    "!": f"https://raw.githubusercontent.com/{REPOSITORY}/v{version}/",
    "": f"https://github.com/{REPOSITORY}/blob/v{version}/",
}


def absolute(link: re.Match[str]) -> str:
    """`[text](docs/page.md)` and `![text](docs/picture.jpg)` from anywhere."""
    kind, text, path = link.groups()
    return f"{kind}[{text}]({at[kind]}{path})"


readme = (root / "README.md").read_text(encoding="utf-8")
setup(
    long_description=re.sub(r"(!?)\[([^\]]+)\]\((?!https?:|#)([^)]+)\)", absolute, readme),
    long_description_content_type="text/markdown",
)
