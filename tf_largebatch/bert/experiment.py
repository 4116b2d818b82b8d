"""The experiments with BERT, for the Model Garden."""

from official.core import config_definitions as cfg
from official.core import exp_factory

from tf_largebatch.bert import pretraining, squad, squad_input
from tf_largebatch.bert.input import DataConfig
from tf_largebatch.experiments import TrainerConfig
from tf_largebatch.tf_keras.model_garden import LargeBatchOptimizationConfig

REPORT_INTERVAL = 10
EVALUATION_INTERVAL = 500


@exp_factory.register_config_factory(pretraining.NAME)
def bert_pretraining() -> cfg.ExperimentConfig:
    """Returns the settings that the recipes for pretraining override.

    Optimizer and schedule are theirs to choose, and where the data is.
    """
    return experiment(
        pretraining.BertPretrainingConfig(
            train_data=DataConfig(is_training=True, seed=0),
            validation_data=DataConfig(
                is_training=False, global_batch_size=1024
            ),
        )
    )


@exp_factory.register_config_factory(squad.NAME)
def bert_squad() -> cfg.ExperimentConfig:
    """Returns the settings that the recipes for SQuAD override.

    Optimizer and schedule are theirs to choose, and where the data is.
    """
    return experiment(
        squad.BertSquadConfig(
            train_data=squad_input.DataConfig(is_training=True, seed=0)
        )
    )


def experiment(task: cfg.TaskConfig) -> cfg.ExperimentConfig:
    """Returns the settings of a task, and those that both tasks have."""
    return cfg.ExperimentConfig(
        task=task,
        trainer=TrainerConfig(
            optimizer_config=LargeBatchOptimizationConfig(),
            steps_per_loop=REPORT_INTERVAL,
            summary_interval=REPORT_INTERVAL,
            checkpoint_interval=EVALUATION_INTERVAL,
            validation_interval=EVALUATION_INTERVAL,
        ),
        runtime=cfg.RuntimeConfig(mixed_precision_dtype="bfloat16"),
    )
