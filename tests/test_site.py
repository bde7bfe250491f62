"""The pages of docs/ build as a site without a warning, and load nothing from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlparse

import pytest

import autolink

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not find_spec("mkdocs"), reason="needs the extra docs")


class Loaded(HTMLParser):
    """What a browser fetches by itself when it opens a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "link" and given.get("rel") not in {"canonical", "next", "prev"}:
            self.addresses.append(given.get("href") or "")
        elif tag in {"script", "img", "iframe", "source", "video", "audio", "form", "object", "embed"}:
            self.addresses += [given.get(name) or "" for name in ("src", "srcset", "action", "data")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does, without a network."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("mkdocs.yml", "docs", "recipes", "CONTRIBUTING.md", "ARCHITECTURE.md"):
        (folder / name).symlink_to(ROOT / name)
    tree = folder / ".venv" / "tree" / "autolink"
    tree.mkdir(parents=True)
    for path in (*(ROOT / "autolink").iterdir(), *(ROOT / name for name in ("generation", "video", "eval"))):
        (tree / path.name).symlink_to(path)
    build = [sys.executable, "-c", BUILD]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder / "site"


BUILD = """
import socket, sys
from mkdocs.__main__ import cli

def refuse(*asked, **_):
    raise SystemExit(f"the build asked the network: {asked}")

socket.socket.connect = socket.getaddrinfo = refuse
cli(["build", "--strict"])
"""


def test_every_page_is_in_the_navigation(site: Path) -> None:
    pages = {path.with_suffix(".html").name for path in DOCS.iterdir() if path.suffix in {".md", ".ipynb"}}
    index = (site / "index.html").read_text()
    listed = set(re.findall(r'<a href="([\w-]+\.html|\./)" class="md-nav__link', index))
    assert pages <= listed | {"index.html"}, f"mkdocs.yml does not list {pages - listed}"


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        addresses = Loaded(page.read_text()).addresses
        assert any(address.endswith(".css") for address in addresses)
        away = [address for address in addresses if urlparse(address).netloc]
        assert not away, f"{page.name} loads {away}"
    assert not [
        path for path in site.rglob("*.css") if re.search(r"(@import|url\()\s*[\"']?(https?:)?//", path.read_text())
    ]


def test_lists_and_tables_are_shown_as_such(site: Path) -> None:
    """Unlike GitHub, the site's Markdown wants an empty line before them."""
    for page in site.glob("*.html"):
        text = re.sub(r"<(pre|code)\b.*?</\1>", "", page.read_text(), flags=re.DOTALL)
        raw = re.findall(r"^(?:- |\d\. |\|).*", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL), re.MULTILINE)
        assert not raw, f"{page.name}: {raw[:3]}"


def test_the_reference_has_what_the_package_offers(site: Path) -> None:
    page = (site / "api.html").read_text()
    assert {name for name in autolink.__all__ if name not in re.findall(r'id="autolink[.\w]*\.(\w+)"', page)} <= {
        "draw"
    }
    assert "autolink.draw.draw_graph" in page
    assert "(K, 2) for a single picture, else (N, K, 2)" in page  # the text of AutoLink.detect


def test_notebooks_are_pages_with_their_pictures(site: Path) -> None:
    for path in DOCS.glob("*.ipynb"):
        page = (site / path.with_suffix(".html").name).read_text()
        assert page.count("data:image/jpeg;base64,") >= 2, path


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / "README.md").read_text())
    assert len(links) > 15
    assert not [link for link in links if not (ROOT / link).exists()]
