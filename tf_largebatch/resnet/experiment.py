"""The experiment ``largebatch/resnet50_imagenet``, for the Model Garden."""

from official.core import config_definitions as cfg
from official.core import exp_factory

from tf_largebatch.experiments import TrainerConfig
from tf_largebatch.resnet import task
from tf_largebatch.resnet.input import DataConfig
from tf_largebatch.resnet.task import NAME
from tf_largebatch.tf_keras.model_garden import LargeBatchOptimizationConfig

EVALUATION_INTERVAL = 157  # Steps: 4 epochs of ImageNet at batch 32,768.
REPORT_INTERVAL = 10


@exp_factory.register_config_factory(NAME)
def resnet50_imagenet() -> cfg.ExperimentConfig:
    """Returns the settings that the recipes for ResNet-50 override.

    Optimizer and schedule are theirs to choose, and where the data is.
    """
    return cfg.ExperimentConfig(
        task=task.ResNetTaskConfig(
            train_data=DataConfig(
                is_training=True, num_examples=1_281_167, seed=0
            ),
            validation_data=DataConfig(
                is_training=False, num_examples=50_000, global_batch_size=1024
            ),
        ),
        trainer=TrainerConfig(
            optimizer_config=LargeBatchOptimizationConfig(),
            train_steps=2512,
            steps_per_loop=REPORT_INTERVAL,
            summary_interval=REPORT_INTERVAL,
            checkpoint_interval=EVALUATION_INTERVAL,
            validation_interval=EVALUATION_INTERVAL,
        ),
        runtime=cfg.RuntimeConfig(mixed_precision_dtype="bfloat16"),
    )
