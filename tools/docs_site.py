"""What MkDocs does beside its own for the documentation's site.

The files of the repository's root that are pages too become pages, with their
links to docs/ made links between pages, and so do the notebooks, with what
they put out. And a page that would load anything
from another server ends the build: the site is to work without a network, and
to tell nobody who reads it.
"""

import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = {
    "reproducing.md": "REPRODUCING.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "notebooks/optimizers.md": "examples/notebooks/optimizers.ipynb",
    "notebooks/compare.md": "examples/notebooks/compare.ipynb",
    "notebooks/recipe.md": "examples/notebooks/recipe.ipynb",
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
    """Adds the pages that lie elsewhere in the repository."""
    from mkdocs.structure.files import File

    for name, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if source.endswith(".ipynb"):
            text = "\n\n".join(parts(json.loads(text)))
        else:
            text = as_page(text)
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


def parts(notebook: Mapping[str, Any]) -> Iterator[str]:
    """Yields the Markdown of a notebook's cells and of what they put out.

    >>> said = {"output_type": "stream", "text": ["2"]}
    >>> code = {"cell_type": "code", "source": ["1 + 1"], "outputs": [said]}
    >>> text = {"cell_type": "markdown", "source": ["[x](../../docs/x.md)"]}
    >>> for part in parts({"cells": [text, code]}):
    ...     print(part)
    [x](../x.md)
    ```python
    1 + 1
    ```
    ```text
    2
    ```
    """
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source = re.sub(r"\]\(\.\./\.\./[^)]*", page_link, source)
            yield re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", source)
            continue
        language = "sh" if source.startswith("%%bash") else "python"
        yield fenced(language, source)
        yield from map(shown, cell["outputs"])


def page_link(found: re.Match[str]) -> str:
    """Returns a link out of a notebook's folder as its page has it.

    >>> page_link(re.match(".*", "](../../REPRODUCING.md#table-2"))
    '](../reproducing.md#table-2'
    """
    from_root = found[0].replace("](../../", "](")
    return as_page(from_root).replace("](", "](../")


def shown(output: Mapping[str, Any]) -> str:
    """Returns an output as Markdown: a picture, or text."""
    data = output.get("data", {})
    if "image/png" in data:
        kept = output.get("metadata", {}).get("image/png", {})
        alt = kept.get("alt", "The picture that the code above draws")
        png = "".join("".join(data["image/png"]).split())
        width = f'{{ width="{kept["width"]}" }}' if "width" in kept else ""
        return f"![{alt}](data:image/png;base64,{png}){width}"
    return fenced("text", "".join(output.get("text", data.get("text/plain"))))


def fenced(language: str, text: str) -> str:
    """Returns text as a block of Markdown."""
    return f"```{language}\n{text.rstrip()}\n```"


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
