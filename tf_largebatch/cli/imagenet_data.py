"""The part of ``tf-largebatch data`` that is for ImageNet."""

import pathlib
import sys
from typing import TYPE_CHECKING

from absl import flags

from tf_largebatch import shards
from tf_largebatch.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def run(values: flags.FlagValues) -> None:
    """Does what the flags ask for.

    Raises:
        UserError: it is not clear what that is, or see below.
    """
    if (values.input is None) == (values.out is None):
        raise UserError(
            "give one of --input=PATTERN, to check files, and --out=DIR, to "
            "make a small set"
        )
    if values.out is not None:
        build(pathlib.Path(values.out))
    else:
        check(values.input, values.records, values.classes, values.decode_every)


def build(folder: pathlib.Path) -> None:
    """Makes the small set of pictures and says how to go on."""
    from tf_largebatch.resnet import pictures

    for split, count in pictures.build(folder).items():
        print(f"{count:,} pictures in {folder / split}-*")
    print(f"\n{len(pictures.PHOTOGRAPHS)} labels, from 1 to that.")


def check(
    pattern: str, wanted: int | None, classes: int, decode_every: int
) -> None:
    """Reads all files and prints what is in them.

    Raises:
        UserError: a record is broken, or there are not so many as wanted.
    """
    import numpy as np
    from tqdm import tqdm

    from tf_largebatch.resnet import sources

    source = sources.open_files(pattern)
    parts = sources.check(source, classes, decode_every)
    # In a file, a line now and then will do.
    pause = 0.1 if sys.stderr.isatty() else 15
    labels = [
        *tqdm(parts, "files", len(source.pieces), unit="", mininterval=pause)
    ]
    counts = np.bincount(np.concatenate(labels), minlength=classes)
    print(
        f"{len(labels):,} files, all records read, 1 picture in "
        f"{decode_every} decoded"
    )
    for path in shards.missing([piece.path for piece in source.pieces]):
        print(f"missing: {path}")
    print(f"{counts.sum():,} pictures, {describe(counts)}")
    if wanted not in (None, counts.sum()):
        raise UserError(
            f"there are {counts.sum()} records, not {wanted}, in "
            f"{pattern}; complete the files"
        )


def describe(counts: "np.ndarray") -> str:
    """Returns which labels there are and how often, in words."""
    labels = [label for label, count in enumerate(counts, 1) if count]
    some = [count for count in counts if count]
    return (
        f"{len(labels):,} labels from {labels[0]} to {labels[-1]}, "
        f"{min(some):,} to {max(some):,} of each"
    )
