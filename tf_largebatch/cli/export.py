r"""Exports a trained network as a SavedModel that serves.

A ResNet prepares pictures as evaluation does: its signature serving_default
takes JPEGs (image_bytes), the other, image_tensor, pixels. A BERT takes
tokens, and for SQuAD gives the logits of an answer's start and end. Without
--recipe, the settings are those that the run has in its params.yaml.

example:
  tf-largebatch export --checkpoint=runs/b --export_dir=runs/b_export
  tf-largebatch export --checkpoint=runs/bert/squad \
    --export_dir=runs/bert_export
"""

from absl import flags

from tf_largebatch.cli.train import hush
from tf_largebatch.errors import UserError

EXTRA = "garden"
FLAGS = flags.FlagValues()
RECIPE = flags.DEFINE_string(
    "recipe",
    None,
    "which recipe it was trained with; without it, params.yaml says so",
    flag_values=FLAGS,
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "path of a checkpoint, or folder of a run, of which the newest is taken",
    flag_values=FLAGS,
)
EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "new folder to write to", flag_values=FLAGS
)
PARAMS_OVERRIDE = flags.DEFINE_string(
    "params_override",
    "",
    "settings that the run was given beside the recipe's, as to train",
    flag_values=FLAGS,
)


def main() -> int:
    """Exports what the flags name."""
    for flag in (CHECKPOINT, EXPORT_DIR):
        if not flag.value:
            raise UserError(f"give --{flag.name}=...; see export --help")
    hush()
    from tf_largebatch.garden import export, settings

    checkpoint = export.find(CHECKPOINT.value)
    if RECIPE.value:
        config = settings.collect(
            RECIPE.value, params_override=PARAMS_OVERRIDE.value
        )
    else:
        config = settings.of_run(checkpoint, PARAMS_OVERRIDE.value)
    export.export(config, checkpoint, EXPORT_DIR.value)
    print(f"exported {checkpoint} to {EXPORT_DIR.value}")
    return 0
