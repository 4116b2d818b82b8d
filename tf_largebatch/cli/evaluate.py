r"""Evaluates a SavedModel as the run was that it is exported from.

The figures are those of the trainer at that checkpoint: top-1 and top-5
accuracy with every picture counted once, the losses of held-out text, or
SQuAD's F1 and exact match. With --input of the training pictures the accuracy
is that of training, as table 2 of the paper has it beside the other.

example:
  tf-largebatch evaluate --saved_model=runs/b_export \
    --input='imagenet/validation-*'
  tf-largebatch evaluate --saved_model=runs/bert_export
"""

from absl import flags

from tf_largebatch.cli.train import describe, hush
from tf_largebatch.errors import UserError

EXTRA = "garden"
FLAGS = flags.FlagValues()
SAVED_MODEL = flags.DEFINE_string(
    "saved_model",
    None,
    "folder that `tf-largebatch export` wrote",
    flag_values=FLAGS,
)
INPUT = flags.DEFINE_string(
    "input",
    None,
    "TFRecord files, names or patterns, separated by commas; without it, "
    "those that the run was evaluated on",
    flag_values=FLAGS,
)


def main() -> int:
    """Evaluates what the flags name."""
    if not SAVED_MODEL.value:
        raise UserError("give --saved_model=FOLDER, as written by an export")
    hush()
    from tf_largebatch.garden import evaluate

    print(describe(evaluate.evaluate(SAVED_MODEL.value, INPUT.value)))
    return 0
