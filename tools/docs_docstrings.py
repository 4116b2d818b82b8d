"""Docstrings as Markdown, for the reference in the documentation.

The package's docstrings name classes as Sphinx has it, :class:`LARS`, and
their equations are code; Markdown knows the second but not the first.
"""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":[a-z]+:`~?(?:tf_largebatch\.)?([^`]+)`")


class PlainRoles(Extension):
    """Turns every role into code."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrites the docstring of one module, class or function."""
        del kwargs
        if not obj.is_alias and obj.docstring:
            obj.docstring.value = without_roles(obj.docstring.value)


def without_roles(text: str) -> str:
    """Returns a docstring without roles.

    >>> without_roles("see :class:`~tf_largebatch.study.compare`")
    'see `study.compare`'
    """
    return ROLE.sub(r"`\1`", text)
