"""Makes the data of both pretraining phases, and of SQuAD, from plain text."""

import collections
import dataclasses
import functools
import json
import math
import pathlib
import shutil
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

from tf_largebatch import folders, parallel
from tf_largebatch.bert import (
    demo,
    documents,
    instances,
    questions,
    text_files,
    vocabulary,
)
from tf_largebatch.errors import UserError

Files = dict[str, list[pathlib.Path]]
VOCABULARY = "vocab.txt"
DEV = "squad/dev.json"
# What was asked for, and how many records there are.
SUMMARY = "data.json"
SPLITS = ("train", "validation")
# Of the text of one file. All its examples are in memory at once, which takes
# about a hundred times as much; and the second sentence of a pair that does
# not belong together is from the same file.
MOST_TEXT, LEAST_TEXT = 8 << 20, 64 << 10
# Into about how many files a text is cut that is not large.
FILES = 16
# [CLS], and [SEP] after each of the two sentences.
SPECIAL_TOKENS = 3


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is made, of which text.

    The text is cut into files by its own order alone, and each file has its
    own seed, so that what comes out does not depend on how many processes
    there are. Validation is on whole documents, spread evenly over the text.

    Attributes:
        input: text files, by names or patterns separated by commas; or
            ``demo``, which needs no download.
        text_format: of the files, one of :data:`documents.FORMATS`.
        tfds: instead of files a data set that TensorFlow Datasets prepared,
            such as ``wikipedia/20230601.en``.
        tfds_dir: where such data sets are; empty means TFDS's own folder.
        vocab_file: a WordPiece vocabulary.
        vocab_size: instead of that file, of how many tokens a vocabulary is
            to be learnt from the text for training.
        do_lower_case: whether capitals are made small.
        max_seq_length: tokens of an example, phase by phase.
        max_predictions_per_seq: tokens that are masked at most, phase by
            phase.
        masked_lm_prob: the share of tokens that are masked.
        dupe_factor: how often the text is gone through, with other masks.
        short_seq_prob: how often an example is made shorter on purpose.
        validation_fraction: the share of documents that is for validation.
        seed: of everything that is left to chance.
        squad_train: SQuAD v1.1's questions for training, JSON.
        squad_dev: those for evaluation, JSON. Both files or none.
        squad_length: tokens of a question with its paragraph.
        squad_stride: how many tokens further the next part of a paragraph
            begins that is too long.
        query_length: tokens of a question; the rest of it is left out.
    """

    input: str = ""
    text_format: str = "sentences"
    tfds: str = ""
    tfds_dir: str = ""
    vocab_file: str = ""
    vocab_size: int = 0
    do_lower_case: bool = True
    max_seq_length: tuple[int, ...] = (128, 512)
    max_predictions_per_seq: tuple[int, ...] = (20, 76)
    masked_lm_prob: float = 0.15
    dupe_factor: int = 10
    short_seq_prob: float = 0.1
    validation_fraction: float = 0.05
    seed: int = 12345
    squad_train: str = ""
    squad_dev: str = ""
    squad_length: int = 384
    squad_stride: int = 128
    query_length: int = 64


# What the recipes of a tiny BERT expect.
DEMO: dict[str, Any] = {
    "input": demo.NAME,
    "vocab_size": 4000,
    "max_seq_length": (64, 128),
    "max_predictions_per_seq": (10, 20),
    "squad_train": demo.TRAIN,
    "squad_dev": demo.DEV,
    "squad_length": 128,
    "squad_stride": 64,
}


def demo_settings(**changes: Any) -> Settings:
    """Returns the settings for the text that needs no download."""
    if changes.get("vocab_file"):
        changes.setdefault("vocab_size", 0)
    return Settings(**{**DEMO, **changes})


def build(
    folder: pathlib.Path, settings: Settings, processes: int | None = None
) -> dict[str, int]:
    """Writes ``phase1/``, ``phase2/``, ``squad/`` and the vocabulary.

    The folder is there when it is complete, and not before. Processes are
    started, which import the program that calls: a script must call this only
    under ``if __name__ == "__main__":``.

    Args:
        folder: where to; must not exist yet, or be empty.
        settings: what is made.
        processes: how many work on it; None means one a core.

    Returns:
        How many records there are, such as of ``phase1/train``.

    Raises:
        UserError: a setting, the text, the vocabulary or the questions are
            not right, or the folder cannot be used.
        RunError: a process ended early.
    """
    check(settings)
    folders.check_new(folder)
    corpus = open_corpus(settings)
    if settings.vocab_file:
        vocabulary.read(settings.vocab_file)
    articles = read_questions(settings)
    with folders.aside(folder) as unfinished, parallel.start(processes) as pool:
        text = unfinished / "text"
        files = cut(corpus, settings.validation_fraction, text)
        write_vocabulary(unfinished / VOCABULARY, settings, files, pool)
        counts = write_phases(unfinished, settings, files, pool)
        if articles:
            counts |= write_squad(unfinished, settings, articles, pool)
        shutil.rmtree(text)
        summary = {"settings": dataclasses.asdict(settings), "records": counts}
        (unfinished / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    return counts


def check(settings: Settings) -> None:
    """Raises UserError for a setting that cannot be."""
    lengths = settings.max_seq_length
    predictions = settings.max_predictions_per_seq
    if len(lengths) != len(predictions) or not lengths:
        raise UserError(
            f"max_seq_length has {len(lengths)} values and "
            f"max_predictions_per_seq {len(predictions)}; give one a phase"
        )
    for length, most in zip(lengths, predictions):
        if not 1 <= most <= length - SPECIAL_TOKENS or length < 8:
            raise UserError(
                f"max_seq_length is {length} and max_predictions_per_seq "
                f"{most}; the one must be at least 8, the other at least 1 and "
                f"{SPECIAL_TOKENS} less than the one at most"
            )
    for name in ("masked_lm_prob", "short_seq_prob", "validation_fraction"):
        if not 0 <= getattr(settings, name) < 1:
            raise UserError(
                f"{name} is {getattr(settings, name)}; give 0 or more, and "
                "less than 1"
            )
    if settings.dupe_factor < 1:
        raise UserError(
            f"dupe_factor is {settings.dupe_factor}; give 1 or more"
        )
    check_sources(settings)


def check_sources(settings: Settings) -> None:
    """Raises UserError where it is not clear what is to be read."""
    if bool(settings.input) == bool(settings.tfds):
        raise UserError(
            "give one of --input=FILES and --tfds=NAME, the text to learn from"
        )
    if settings.text_format not in documents.FORMATS:
        raise UserError(
            f"text_format is {settings.text_format!r}; give one of "
            f"{', '.join(documents.FORMATS)}"
        )
    if bool(settings.vocab_file) == (settings.vocab_size > 0):
        raise UserError(
            "give one of --vocab_file=FILE, which all BERTs of its kind have, "
            "and --vocab_size=NUMBER, to learn a vocabulary from the text"
        )
    if bool(settings.squad_train) != bool(settings.squad_dev):
        raise UserError("give both of --squad_train and --squad_dev, or none")
    if settings.squad_train:
        questions.check_lengths(
            settings.squad_length, settings.squad_stride, settings.query_length
        )


def open_corpus(settings: Settings) -> documents.Corpus:
    """Returns the text that the settings name."""
    if settings.tfds:
        return documents.from_tfds(
            name=settings.tfds, data_dir=settings.tfds_dir
        )
    if settings.input == demo.NAME:
        return demo.corpus()
    return documents.from_files(settings.input, settings.text_format)


def read_questions(settings: Settings) -> list[questions.Article]:
    """Returns SQuAD's articles for training; both files are checked."""
    if not settings.squad_train:
        return []
    questions.read(settings.squad_dev)
    return questions.read(settings.squad_train, training=True)


def cut(
    corpus: documents.Corpus, fraction: float, folder: pathlib.Path
) -> Files:
    """Writes the text to files of similar size; returns them by split.

    Raises:
        UserError: there is no text, or none of it is for one of the splits.
    """
    folder.mkdir()
    size = min(max(corpus.size // FILES, LEAST_TEXT), MOST_TEXT)
    splits = SPLITS if fraction else SPLITS[:1]
    files: Files = {split: [] for split in splits}
    count = 0
    with parallel.bar("bytes of text", corpus.size, unit_scale=True) as shown:
        for count, document in enumerate(corpus.read(), 1):
            split = splits[is_for_validation(count, fraction)]
            if not files[split] or files[split][-1].stat().st_size >= size:
                name = f"{split}-{len(files[split]):05}.txt"
                files[split].append(folder / name)
            text = "\n".join([*document, "", ""])
            with files[split][-1].open("a", encoding="utf-8") as file:
                shown.update(file.write(text))
    check_cut(corpus, files, count)
    return files


def is_for_validation(number: int, fraction: float) -> bool:
    """Whether a document is, of which the first has number 1.

    >>> [n for n in range(1, 13) if is_for_validation(n, 0.25)]
    [4, 8, 12]
    """
    return math.floor(number * fraction) > math.floor((number - 1) * fraction)


def check_cut(corpus: documents.Corpus, files: Files, count: int) -> None:
    """Raises UserError for a split without text."""
    if not count:
        raise UserError(f"there is no text, in {corpus.name}; give some")
    for split, paths in files.items():
        if not paths:
            raise UserError(
                f"validation_fraction leaves nothing for {split} of "
                f"{count} documents, in {corpus.name}; give more text, with "
                "blank lines between documents, or another fraction"
            )


def write_vocabulary(
    path: pathlib.Path, settings: Settings, files: Files, pool: Executor
) -> None:
    """Copies the vocabulary, or learns it from the text for training."""
    if settings.vocab_file:
        tokens = vocabulary.read(settings.vocab_file)
    else:
        count = functools.partial(
            vocabulary.count_words, do_lower_case=settings.do_lower_case
        )
        counts: collections.Counter[str] = collections.Counter()
        for part in parallel.run(pool, "files of words", count, files["train"]):
            counts.update(part)
        tokens = vocabulary.learn(counts, settings.vocab_size)
    path.write_text("\n".join([*tokens, ""]), encoding="utf-8")


def write_phases(
    folder: pathlib.Path, settings: Settings, files: Files, pool: Executor
) -> dict[str, int]:
    """Writes the examples of all phases; returns how many."""
    lengths = zip(settings.max_seq_length, settings.max_predictions_per_seq)
    jobs = {}
    for number, (length, most) in enumerate(lengths, 1):
        (folder / f"phase{number}").mkdir()
        for split, paths in files.items():
            names = numbered(f"phase{number}/{split}", len(paths))
            for name, path in zip(names, paths):
                jobs[name] = instances.Job(
                    text=str(path),
                    out=str(folder / name),
                    vocab_file=str(folder / VOCABULARY),
                    do_lower_case=settings.do_lower_case,
                    seq_length=length,
                    max_predictions=most,
                    masked_lm_prob=settings.masked_lm_prob,
                    dupe_factor=settings.dupe_factor,
                    short_seq_prob=settings.short_seq_prob,
                    seed=f"{settings.seed}/{name}",
                )
    written = parallel.run(
        pool, "files of examples", instances.write, [*jobs.values()]
    )
    return add_up(jobs, written)


def numbered(name: str, count: int) -> list[str]:
    """Returns the names of files that belong together.

    >>> numbered("phase1/train", 2)
    ['phase1/train-00000-of-00002', 'phase1/train-00001-of-00002']
    """
    return [f"{name}-{number:05}-of-{count:05}" for number in range(count)]


def add_up(names: Iterable[str], written: Iterable[int]) -> dict[str, int]:
    """Returns how many records there are, by the names without numbers.

    Raises:
        UserError: a file has none.
    """
    counts: collections.Counter[str] = collections.Counter()
    for name, count in zip(names, written):
        whole, _, _ = name.partition("-")
        counts[whole] += count
        if not count:
            raise UserError(
                f"there are no words in the text for {whole}; give more text"
            )
    return dict(counts)


def write_squad(
    folder: pathlib.Path,
    settings: Settings,
    articles: list[questions.Article],
    pool: Executor,
) -> dict[str, int]:
    """Writes the features for training, and copies the rest."""
    (folder / "squad").mkdir()
    dev = text_files.read(settings.squad_dev)
    (folder / DEV).write_text(dev, encoding="utf-8")
    parts = [*questions.parts(articles)]
    jobs = {}
    for name, part in zip(numbered("squad/train", len(parts)), parts):
        path = folder / "text" / f"{pathlib.PurePath(name).name}.json"
        path.write_text(json.dumps({"data": part}), encoding="utf-8")
        jobs[name] = questions.Job(
            questions=str(path),
            out=str(folder / name),
            vocab_file=str(folder / VOCABULARY),
            do_lower_case=settings.do_lower_case,
            seq_length=settings.squad_length,
            doc_stride=settings.squad_stride,
            query_length=settings.query_length,
        )
    written = parallel.run(
        pool, "files of questions", questions.write, [*jobs.values()]
    )
    return add_up(jobs, written)
