"""Checks ImageNet's files, or makes a small set of real pictures like them.

With --input, every record of TFRecord files is read: its checksums, its
label, and of some pictures the JPEG as a whole. The first broken record is
named. With --out, pictures are cut out of the photographs in the scikit-learn
and scikit-image packages, 1,024 for training and 256 for evaluation, of 16
labels: enough to try every command on, without a download.

example:
  tf-largebatch data imagenet --out=pictures
  tf-largebatch data imagenet --input='pictures/train-*' --decode_every=1
  tf-largebatch data imagenet --input='imagenet/train-*' --records=1281167
"""

import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from tf_largebatch.errors import UserError

if TYPE_CHECKING:
    import numpy as np

EXTRA = "garden"
POSITIONAL = "dataset"
FLAGS = flags.FlagValues()
DATASET = flags.DEFINE_enum(
    "dataset",
    None,
    ["imagenet"],
    "which data; its name alone will do, as in the examples",
    flag_values=FLAGS,
)
INPUT = flags.DEFINE_string(
    "input",
    None,
    "the files to check: names or patterns, separated by commas",
    flag_values=FLAGS,
)
OUT = flags.DEFINE_string(
    "out", None, "new folder to write small data to", flag_values=FLAGS
)
RECORDS = flags.DEFINE_integer(
    "records",
    None,
    "how many records there must be, such as 1281167 or 50000",
    lower_bound=1,
    flag_values=FLAGS,
)
CLASSES = flags.DEFINE_integer(
    "classes",
    1000,
    "how many labels there may be: 1 to this are right",
    lower_bound=1,
    flag_values=FLAGS,
)
DECODE_EVERY = flags.DEFINE_integer(
    "decode_every",
    50,
    "decodes every so manieth picture of each file; 1 means all of them",
    lower_bound=1,
    flag_values=FLAGS,
)
SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})")


def main() -> int:
    """Does what the flags ask for."""
    if DATASET.value is None:
        raise UserError(
            "which data is not said; as in: data imagenet --out=DIR"
        )
    if (INPUT.value is None) == (OUT.value is None):
        raise UserError(
            "give one of --input=PATTERN, to check files, and --out=DIR, to "
            "make a small set"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if OUT.value is not None:
        build(pathlib.Path(OUT.value))
    else:
        check(INPUT.value)
    return 0


def build(folder: pathlib.Path) -> None:
    """Makes the small set of pictures and says how to go on."""
    from tf_largebatch.resnet import pictures

    for split, count in pictures.build(folder).items():
        print(f"{count:,} pictures in {folder / split}-*")
    print(f"\n{len(pictures.PHOTOGRAPHS)} labels, from 1 to that.")


def check(pattern: str) -> None:
    """Reads all files and prints what is in them.

    Raises:
        UserError: a record is broken, or there are not --records of them.
    """
    import numpy as np
    from tqdm import tqdm

    from tf_largebatch.resnet import records

    source = records.open_files(pattern)
    parts = records.check(source, CLASSES.value, DECODE_EVERY.value)
    # In a file, a line now and then will do.
    pause = 0.1 if sys.stderr.isatty() else 15
    labels = [
        *tqdm(parts, "files", len(source.pieces), unit="", mininterval=pause)
    ]
    counts = np.bincount(np.concatenate(labels), minlength=CLASSES.value)
    print(
        f"{len(labels):,} files, all records read, 1 picture in "
        f"{DECODE_EVERY.value} decoded"
    )
    for path in missing([piece.path for piece in source.pieces]):
        print(f"missing: {path}")
    print(f"{counts.sum():,} pictures, {describe(counts)}")
    if RECORDS.value not in (None, counts.sum()):
        raise UserError(
            f"there are {counts.sum()} records, not {RECORDS.value}, in "
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


def missing(paths: Sequence[str]) -> list[str]:
    """Returns the files that their names' "-of-" says there should be."""
    wanted = [
        f"{match[1]}-{number:05}-of-{match[3]}"
        for path in paths
        if (match := SHARD.fullmatch(path))
        for number in range(int(match[3]))
    ]
    return sorted(set(wanted) - set(paths))
