r"""Makes training data, or checks it: of ImageNet and of BERT.

imagenet: with --input, every record of TFRecord files is read: its checksums,
its label, and of some pictures the JPEG as a whole. With --out, pictures are
cut out of the photographs in the scikit-learn and scikit-image packages, 1,024
for training and 256 for evaluation, of 16 labels: enough to try every command
on, without a download.

bert: with --out, text becomes the examples of both phases of pretraining, and
SQuAD's questions become features, as BERT's own tools make them. The text is
UTF-8 files with one sentence a line and blank lines between documents, or a
data set of TFDS; --input=demo takes text and questions that need no download.
With --check, every record is read, and it is said what is in them.

The first broken record of a file is named.

example:
  tf-largebatch data imagenet --out=pictures
  tf-largebatch data imagenet --input='pictures/train-*' --decode_every=1
  tf-largebatch data imagenet --input='imagenet/train-*' --records=1281167
  tf-largebatch data bert --input=demo --out=runs/bert_data
  tf-largebatch data bert --check=runs/bert_data
  tf-largebatch data bert --input='texts/*.txt' --vocab_file=vocab.txt \
    --squad_train=train-v1.1.json --squad_dev=dev-v1.1.json --out=bert_data
"""

import importlib

from absl import flags

from tf_largebatch.errors import UserError

EXTRA = "garden"
POSITIONAL = "dataset"
FLAGS = flags.FlagValues()
DATASET = flags.DEFINE_enum(
    "dataset",
    None,
    ["imagenet", "bert"],
    "which data; its name alone will do, as in the examples",
    flag_values=FLAGS,
)
INPUT = flags.DEFINE_string(
    "input",
    None,
    "files: names or patterns, separated by commas; of imagenet those to "
    "check, of bert text, or demo",
    flag_values=FLAGS,
)
OUT = flags.DEFINE_string(
    "out", None, "new folder to write to", flag_values=FLAGS
)
RECORDS = flags.DEFINE_integer(
    "records",
    None,
    "imagenet: how many records there must be, such as 1281167 or 50000",
    lower_bound=1,
    flag_values=FLAGS,
)
CLASSES = flags.DEFINE_integer(
    "classes",
    1000,
    "imagenet: how many labels there may be: 1 to this are right",
    lower_bound=1,
    flag_values=FLAGS,
)
DECODE_EVERY = flags.DEFINE_integer(
    "decode_every",
    50,
    "imagenet: decodes every so manieth picture of each file; 1 means all",
    lower_bound=1,
    flag_values=FLAGS,
)
CHECK = flags.DEFINE_string(
    "check",
    None,
    "bert: folder that --out made, or TFRecord files, to look through",
    flag_values=FLAGS,
)
TFDS = flags.DEFINE_string(
    "tfds",
    None,
    "bert: instead of --input, a data set that TFDS prepared, such as "
    "wikipedia/20230601.en",
    flag_values=FLAGS,
)
TFDS_DIR = flags.DEFINE_string(
    "tfds_dir", None, "bert: where TFDS's data sets are", flag_values=FLAGS
)
TEXT_FORMAT = flags.DEFINE_enum(
    "text_format",
    None,
    ["sentences", "paragraphs"],
    "bert: sentences: one a line, blank lines between documents; paragraphs: "
    "free text, blank lines between them, a file is a document (default: "
    "sentences)",
    flag_values=FLAGS,
)
VOCAB_FILE = flags.DEFINE_string(
    "vocab_file", None, "bert: the WordPiece vocabulary", flag_values=FLAGS
)
VOCAB_SIZE = flags.DEFINE_integer(
    "vocab_size",
    None,
    "bert: instead of --vocab_file, how many tokens to learn from the text "
    "(default of demo: 4000)",
    lower_bound=1,
    flag_values=FLAGS,
)
DO_LOWER_CASE = flags.DEFINE_boolean(
    "do_lower_case",
    None,
    "bert: makes capitals small (default: true)",
    flag_values=FLAGS,
)
MAX_SEQ_LENGTH = flags.DEFINE_list(
    "max_seq_length",
    None,
    "bert: tokens of an example, phase by phase (default: 128,512; of demo: "
    "64,128)",
    flag_values=FLAGS,
)
MAX_PREDICTIONS_PER_SEQ = flags.DEFINE_list(
    "max_predictions_per_seq",
    None,
    "bert: masked tokens of an example at most, phase by phase (default: "
    "20,76; of demo: 10,20)",
    flag_values=FLAGS,
)
MASKED_LM_PROB = flags.DEFINE_float(
    "masked_lm_prob",
    None,
    "bert: share of the tokens that are masked (default: 0.15)",
    flag_values=FLAGS,
)
DUPE_FACTOR = flags.DEFINE_integer(
    "dupe_factor",
    None,
    "bert: how often to go through the text, with other masks (default: 10)",
    flag_values=FLAGS,
)
SHORT_SEQ_PROB = flags.DEFINE_float(
    "short_seq_prob",
    None,
    "bert: share of examples made shorter on purpose (default: 0.1)",
    flag_values=FLAGS,
)
VALIDATION_FRACTION = flags.DEFINE_float(
    "validation_fraction",
    None,
    "bert: share of documents for validation (default: 0.05)",
    flag_values=FLAGS,
)
SEED = flags.DEFINE_integer(
    "seed", None, "bert: of all chance (default: 12345)", flag_values=FLAGS
)
SQUAD_TRAIN = flags.DEFINE_string(
    "squad_train",
    None,
    "bert: SQuAD v1.1's questions for training, JSON",
    flag_values=FLAGS,
)
SQUAD_DEV = flags.DEFINE_string(
    "squad_dev", None, "bert: those for evaluation, JSON", flag_values=FLAGS
)
SQUAD_LENGTH = flags.DEFINE_integer(
    "squad_length",
    None,
    "bert: tokens of a question with its paragraph (default: 384; of demo: "
    "128)",
    flag_values=FLAGS,
)
SQUAD_STRIDE = flags.DEFINE_integer(
    "squad_stride",
    None,
    "bert: tokens from one part of a long paragraph to the next (default: "
    "128; of demo: 64)",
    flag_values=FLAGS,
)
QUERY_LENGTH = flags.DEFINE_integer(
    "query_length",
    None,
    "bert: tokens of a question at most (default: 64)",
    flag_values=FLAGS,
)
PROCESSES = flags.DEFINE_integer(
    "processes",
    None,
    "bert: how many work at once (default: one a core)",
    lower_bound=1,
    flag_values=FLAGS,
)
OF_BOTH = {"dataset", "input", "out"}
OF_IMAGENET = {"records", "classes", "decode_every"}


def main() -> int:
    """Does what the flags ask for."""
    if DATASET.value is None:
        raise UserError(
            "which data is not said; as in: data imagenet --out=DIR"
        )
    check_flags(DATASET.value)
    module = importlib.import_module(f"tf_largebatch.cli.{DATASET.value}_data")
    module.run(FLAGS)
    return 0


def check_flags(dataset: str) -> None:
    """Raises UserError for a flag that is of the other data."""
    for name in FLAGS:
        if not FLAGS[name].present or name in OF_BOTH:
            continue
        owner = "imagenet" if name in OF_IMAGENET else "bert"
        if dataset != owner:
            raise UserError(
                f"--{name} is of {owner}, not of {dataset}; leave it out"
            )
