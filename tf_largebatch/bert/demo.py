"""Text and questions that need no download, to try every command on.

The text is the English prose of the documentation in CPython's
``pydoc_data.topics``, without code, tables and grammar. The questions are
written by hand on passages of it.
"""

import pathlib
import re
from collections.abc import Iterator
from pydoc_data.topics import topics

from tf_largebatch.bert.documents import Corpus, Document, sentences

NAME = "demo"
FOLDER = pathlib.Path(__file__).parent
# SQuAD v1.1's form.
TRAIN = str(FOLDER / "demo_train.json")
DEV = str(FOLDER / "demo_dev.json")
HEADING = re.compile(r"^.+\n(?:\*{3,}|={3,}|-{3,}|~{3,}|\^{3,})$", re.M)
MARKUP = (
    (r"(\w)-\n\s*(\w)", r"\1-\2"),  # A compound that a line's end divides.
    (r"\s+", " "),
    (r"^(?:\* |\d+\. |\(\d+\) |\[\d+\] )", ""),  # Of lists and footnotes.
    (r" ?\[\d+\]", ""),  # References to footnotes.
    (r"\*{1,2}([^*\s][^*]*)\*{1,2}", r"\1"),  # Emphasis.
    (r'"([^"]+)"', r"\1"),  # Code.
)
WORD = re.compile(r"[\"'“‘(]*[A-Za-z]+(?:[-'’][A-Za-z]+)*[\"'”’),;:.?!]*")
SENTENCE = re.compile(r"[\"'“‘(]?[A-Z].*[.?!][\"'”’)]*")
LEAST_WORDS = 5
# Less of it are words where there is code in between.
SHARE_OF_WORDS = 0.8


def corpus() -> Corpus:
    """Returns the text; it differs a little from one Python to the next."""
    found = [*documents()]
    size = sum(len(sentence) + 1 for document in found for sentence in document)
    return Corpus(NAME, size, lambda: iter(found))


def documents() -> Iterator[Document]:
    """Yields the sections that have prose; no sentence comes twice.

    Topics contain each other, so that else evaluation would be on text that
    was trained on.
    """
    seen: set[str] = set()
    for topic in sorted(topics):
        for section in HEADING.split(topics[topic]):
            found = dict.fromkeys(prose(section))
            new = [sentence for sentence in found if sentence not in seen]
            seen.update(new)
            if len(new) > 1:
                yield new


def prose(section: str) -> Iterator[str]:
    """Yields the sentences of a section."""
    for block in re.split(r"\n\s*\n", section):
        yield from filter(is_prose, sentences(clean(block)))


def clean(block: str) -> str:
    r"""Returns a paragraph without markup.

    >>> clean('* The *value* of\n  objects, as of "x", can change. [1]')
    'The value of objects, as of x, can change.'
    """
    text = block.strip()
    for pattern, replacement in MARKUP:
        text = re.sub(pattern, replacement, text)
    return text.strip()


def is_prose(sentence: str) -> bool:
    """Whether a sentence is whole, and of words.

    >>> is_prose("Objects are never explicitly destroyed.")
    True
    >>> is_prose("a = list(b + i for i in range(10)).")
    False
    """
    words = sentence.split()
    plain = sum(WORD.fullmatch(word) is not None for word in words)
    return (
        SENTENCE.fullmatch(sentence) is not None
        and len(words) >= LEAST_WORDS
        and plain >= SHARE_OF_WORDS * len(words)
    )
