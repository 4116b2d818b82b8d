"""The part of ``tf-largebatch data`` that is for BERT."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from tf_largebatch import shards
from tf_largebatch.errors import UserError

if TYPE_CHECKING:
    from tf_largebatch.bert import check

LISTS = ("max_seq_length", "max_predictions_per_seq")


def run(values: flags.FlagValues) -> None:
    """Does what the flags ask for.

    Raises:
        UserError: it is not clear what that is, or a part of it is wrong.
    """
    if (values.out is None) == (values.check is None):
        raise UserError(
            "give one of --out=DIR, to make data, and --check=DIR, to look "
            "through what was made"
        )
    if values.out is not None:
        build(values)
    else:
        look_through(values)


def build(values: flags.FlagValues) -> None:
    """Makes the data, and says what there is."""
    from tf_largebatch.bert import demo, text

    names = [field.name for field in dataclasses.fields(text.Settings)]
    given: dict[str, Any] = {
        name: values[name].value
        for name in names
        if values[name].value is not None
    }
    given |= {
        name: numbers(name, given[name]) for name in LISTS if name in given
    }
    settings = (
        text.demo_settings(**given)
        if values.input == demo.NAME
        else text.Settings(**given)
    )
    folder = pathlib.Path(values.out)
    counts = text.build(folder, settings, values.processes)
    for name, count in counts.items():
        print(f"{count:,} examples in {folder / name}-*")


def numbers(name: str, texts: list[str]) -> tuple[int, ...]:
    """Returns the numbers of a list.

    Raises:
        UserError: one is no whole number.
    """
    try:
        return tuple(int(text) for text in texts)
    except ValueError as error:
        raise UserError(
            f"--{name}={','.join(texts)} are no whole numbers; give one a "
            "phase, such as 128,512"
        ) from error


def look_through(values: flags.FlagValues) -> None:
    """Reads all records, and prints what is in them."""
    from tf_largebatch.bert import check, vocabulary

    vocab_file = check.vocabulary_of(values.check, values.vocab_file)
    tokens = vocabulary.read(vocab_file)
    print(f"{len(tokens):,} tokens, in {vocab_file}")
    for found in check.run(values.check, vocab_file, values.processes):
        print(f"\n{found.name}")
        for path in shards.missing(found.files):
            print(f"  missing: {path}")
        for line in describe(found):
            print(f"  {line}")
        print(f"  {check.describe(found.sample, tokens)}")


def describe(found: "check.Found") -> list[str]:
    """Returns what is in some files, in words."""
    totals = found.totals
    length = found.lengths["input_ids"]
    lines = [
        f"{totals['records']:,} examples in {len(found.files):,} files, all "
        "read",
        f"{length} tokens, of which {totals['tokens'] / totals['records']:.1f} "
        "are text",
    ]
    if "start_positions" in found.lengths:
        share = totals["answers"] / totals["records"]
        return [*lines, f"an answer in {share:.1%} of them"]
    predicted = totals["predicted"]
    masked, kept = totals["masked"] / predicted, totals["kept"] / predicted
    return [
        *lines,
        f"{predicted / totals['tokens']:.1%} of the text to be predicted, "
        f"{found.lengths['masked_lm_ids']} tokens at most: {masked:.1%} "
        f"masked, {kept:.1%} kept, {1 - masked - kept:.1%} others",
        f"{totals['random_next'] / totals['records']:.1%} of the second "
        "sentences from elsewhere",
    ]
