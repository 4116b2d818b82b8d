"""What MkDocs does beside its own for the documentation's site.

The files of the repository's root that are pages too become pages, with their
links to docs/ made links between pages. And a page that would load anything
from another server ends the build: the site is to work without a network, and
to tell nobody who reads it.
"""

import pathlib
import re
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = {
    "reproducing.md": "REPRODUCING.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
# What a browser fetches by itself; links that a reader follows are free.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//
    |<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|preconnect|icon))
     [^>]*\bhref=["']?(?:https?:)?//
    |@import\s+(?:url\()?["']?(?:https?:)?//""",
    re.VERBOSE | re.IGNORECASE,
)


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that lie in the repository's root."""
    from mkdocs.structure.files import File

    for name, source in PAGES.items():
        text = as_page((ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, name, content=text))
    return files


def as_page(text: str) -> str:
    """Returns a text of the root with links as pages in docs/ have them.

    >>> as_page("[scale](docs/scale.md#x), [how](CONTRIBUTING.md)")
    '[scale](scale.md#x), [how](contributing.md)'
    """
    for name, source in PAGES.items():
        text = text.replace(f"]({source}", f"]({name}")
    return text.replace("](docs/", "](").replace("](README.md", "](index.md")


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuses a page that loads something from elsewhere."""
    from mkdocs.exceptions import PluginError

    del config
    found = FETCHED.search(output)
    if found:
        raise PluginError(
            f"{page.file.src_uri} loads from another server: {found[0]!r}"
        )
    return output
