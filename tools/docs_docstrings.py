"""Docstrings as Markdown, for the reference in the documentation.

The package's docstrings name classes as Sphinx has it, :class:`LARS`, and have
their examples as Python's prompt shows them. Markdown knows neither.
"""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":[a-z]+:`~?(?:tf_largebatch\.)?([^`]+)`")
# From a prompt to the end of the paragraph.
EXAMPLE = re.compile(r"^( *)>>> .*(?:\n *\S.*)*", re.MULTILINE)


class Markdown(Extension):
    """Turns roles into code, and examples into blocks of code."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrites the docstring of one module, class or function."""
        del kwargs
        if not obj.is_alias and obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    r"""Returns a docstring as Markdown.

    >>> as_markdown("see :class:`~tf_largebatch.study.compare`")
    'see `study.compare`'
    >>> as_markdown("Example:\n\n>>> print(1)\n1\n\nSource: x")
    'Example:\n\n```pycon\n>>> print(1)\n1\n```\n\nSource: x'
    """
    text = ROLE.sub(r"`\1`", text)
    return EXAMPLE.sub(
        lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", text
    )
