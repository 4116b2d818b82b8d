r"""Evaluates a SavedModel on pictures in TFRecord files.

Every picture counts once. The top-1 accuracy is the one that training had at
the checkpoint that was exported. With --input of the training pictures it is
the training accuracy, as table 2 of the paper has it beside the other.

example:
  tf-largebatch evaluate --saved_model=runs/b/exported \
    --input='imagenet/validation-*'
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
