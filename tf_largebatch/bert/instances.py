"""Text made into examples for pretraining, by the Model Garden's tools."""

import dataclasses
import random
from types import ModuleType

from absl import flags
from official.nlp.tools import tokenization


@dataclasses.dataclass(frozen=True)
class Job:
    """Text to be made a TFRecord file of.

    Attributes:
        text: a file with one sentence a line and blank lines between
            documents.
        out: the file to be.
        vocab_file: the vocabulary.
        do_lower_case: whether it is one without capitals.
        seq_length: tokens of an example.
        max_predictions: tokens that are masked at most.
        masked_lm_prob: the share of tokens that are masked.
        dupe_factor: how often the text is gone through, with other masks.
        short_seq_prob: how often an example is made shorter on purpose.
        seed: of everything that is left to chance.
    """

    text: str
    out: str
    vocab_file: str
    do_lower_case: bool
    seq_length: int
    max_predictions: int
    masked_lm_prob: float
    dupe_factor: int
    short_seq_prob: float
    seed: str


def write(job: Job) -> int:
    """Writes the examples of a job's text; returns how many."""
    garden = tools()
    tokenizer = tokenization.FullTokenizer(job.vocab_file, job.do_lower_case)
    instances = garden.create_training_instances(
        [job.text],
        tokenizer,
        garden.get_processor_text_fn(False, job.do_lower_case),
        job.seq_length,
        job.dupe_factor,
        job.short_seq_prob,
        job.masked_lm_prob,
        job.max_predictions,
        random.Random(job.seed),
    )
    garden.write_instance_to_example_files(
        instances,
        tokenizer,
        job.seq_length,
        job.max_predictions,
        [job.out],
        gzip_compress=False,
        use_v2_feature_names=False,
    )
    return len(instances)


def tools() -> ModuleType:
    """Imports the Model Garden's program, whose flags nobody is to see.

    Others of its programs have flags of the same names, which is an error.
    """
    before = set(flags.FLAGS)
    from official.nlp.data import create_pretraining_data

    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
    return create_pretraining_data
