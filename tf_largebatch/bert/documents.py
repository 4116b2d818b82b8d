"""Text to learn from: documents, each of which is a list of sentences.

Files are UTF-8, in one of two formats. ``sentences`` is the original's: one
sentence a line, blank lines between documents. ``paragraphs`` is free text,
wrapped or not, with blank lines between paragraphs; a file is a document, and
where sentences end is guessed: after a full stop, a question mark or an
exclamation mark that a capital letter or a figure follows, unless the stop is
that of an initial or of a common abbreviation.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from tf_largebatch import records
from tf_largebatch.errors import UserError

Document = list[str]
FORMATS = ("sentences", "paragraphs")
ABBREVIATIONS = (
    "Mr Mrs Ms Dr Prof St Jr Sr No vs cf al etc Fig Eq Gen Col Capt Lt Rev "
    "Inc Ltd Co e.g i.e"
).split()
SENTENCE_END = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"'”’)\]]))"
    r"(?<!\b[A-Z]\.)"
    + "".join(rf"(?<!\b{re.escape(word)}\.)" for word in ABBREVIATIONS)
    + r"\s+(?=[\"'“‘(\[]?[A-Z0-9])"
)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """All the text there is.

    Attributes:
        name: where it is, in words.
        size: about how many bytes it has.
        read: yields the documents, none of which is empty, in a fixed order.
    """

    name: str
    size: int
    read: Callable[[], Iterator[Document]]


def sentences(paragraph: str) -> list[str]:
    """Cuts a paragraph into sentences.

    >>> sentences("Dr. Who met J. Smith. Why? He did not say (ever).")
    ['Dr. Who met J. Smith.', 'Why?', 'He did not say (ever).']
    """
    parts = SENTENCE_END.split(" ".join(paragraph.split()))
    return [part for part in parts if part]


def from_files(pattern: str, text_format: str = "sentences") -> Corpus:
    """Returns the text of files.

    Args:
        pattern: their names or patterns, separated by commas.
        text_format: one of ``FORMATS``.

    Raises:
        UserError: no file matches a pattern; when it is read, a file cannot
            be, or is not UTF-8.
    """
    paths = [path for part in pattern.split(",") for path in match(part)]
    parse = {"sentences": blocks, "paragraphs": whole}[text_format]

    def read() -> Iterator[Document]:
        for path in paths:
            yield from parse(lines(path))

    return Corpus(pattern, sum(map(size_of, paths)), read)


def match(pattern: str) -> list[str]:
    """Returns the files that a pattern matches, by name."""
    pattern = pattern.strip()
    try:
        paths = sorted(tf.io.gfile.glob(pattern)) if pattern else []
    except tf.errors.OpError as error:
        raise cannot_read(pattern, error) from error
    if not paths:
        raise UserError(
            f"no file matches {pattern!r}, in --input; give text files, such "
            "as 'FOLDER/*.txt'"
        )
    return paths


def size_of(path: str) -> int:
    """Returns how many bytes a file has."""
    try:
        status = tf.io.gfile.stat(path)
    except tf.errors.OpError as error:
        raise cannot_read(path, error) from error
    if status.is_directory:
        raise UserError(
            f"{path} is a folder, in --input; give its files: '{path}/*'"
        )
    return status.length


def cannot_read(path: str, error: tf.errors.OpError) -> UserError:
    """Returns the error that names a file."""
    return UserError(f"cannot read {path}: {error.message}; check the file")


def lines(path: str) -> Iterator[str]:
    """Yields the lines of a file, without white space around them.

    Raises:
        UserError: the file cannot be read, or a line is not UTF-8.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            for number, line in enumerate(file, 1):
                yield decode(line, f"line {number}", path).strip()
    except tf.errors.OpError as error:
        raise cannot_read(path, error) from error


def decode(text: bytes, place: str, source: str) -> str:
    """Returns bytes as text; names their place if they are not UTF-8."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"the text is not UTF-8 at {place}, in {source}; convert it, "
            "as with iconv"
        ) from error


def blocks(stripped: Iterable[str]) -> Iterator[list[str]]:
    """Yields lines that follow each other without a blank line."""
    for is_text, block in itertools.groupby(stripped, bool):
        if is_text:
            yield list(block)


def whole(stripped: Iterable[str]) -> Iterator[Document]:
    """Yields paragraphs of free text as one document, if there are any."""
    document = [
        sentence
        for block in blocks(stripped)
        for sentence in sentences(" ".join(block))
    ]
    if document:
        yield document


def from_tfds(name: str, split: str = "train", data_dir: str = "") -> Corpus:
    """Returns the text of a data set that TensorFlow Datasets prepared.

    Each example is a document, each line of its ``text`` a paragraph.

    Args:
        name: such as ``wikipedia/20230601.en``.
        split: such as ``train``.
        data_dir: where the data sets are; empty means TFDS's own folder.

    Raises:
        UserError: there is no such data set or split, it has no text, or its
            files are not TFRecords.
    """
    builder, part = records.open_tfds(name, split, data_dir)
    if "text" not in builder.info.features:
        raise UserError(
            f"TFDS's {name!r} has no text but "
            f"{', '.join(builder.info.features)}; give another --tfds"
        )
    return Corpus(
        f"TFDS's {name}", part.num_bytes, lambda: tfds_documents(builder, split)
    )


def tfds_documents(builder: Any, split: str) -> Iterator[Document]:
    """Yields the examples of a TFDS data set that have text."""
    examples = builder.as_dataset(split).as_numpy_iterator()
    for number, example in enumerate(examples, 1):
        source = f"TFDS's {builder.name}"
        text = decode(example["text"], f"example {number}", source)
        document = [
            sentence
            for paragraph in text.split("\n")
            for sentence in sentences(paragraph)
        ]
        if document:
            yield document
