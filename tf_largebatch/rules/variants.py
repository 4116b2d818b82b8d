"""Which LARS, which LAMB: the published algorithms by name, in one table.

"LARS" and "LAMB" name several algorithms that differ in where the weight
decay enters the trust ratio, where the learning rate stands, and what a zero
norm does. A row here is one of them; the sources are named in its comment.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal


@dataclasses.dataclass(frozen=True)
class LARSVariant:
    """One published LARS.

    Attributes:
        norm_of: what stands in the ratio's denominator: ``gradient`` is
            ``||g|| + lambda ||w|| + eps``, ``decayed_gradient`` is
            ``||g + lambda w|| + eps``, ``momentum`` is the norm of the buffer.
        ratio_in_momentum: whether the ratio stands inside the buffer.
        learning_rate_in_momentum: whether the rate stands inside the buffer.
        fallback_learning_rate_in_momentum: the same for the heavy ball of
            the variables without layer adaptation.
        adds_decay: whether ``lambda w`` is added to the gradient, with layer
            adaptation or without. Where not, lambda enters the ratio alone.
        freezes_zero_weights: the ratio is 0, not 1, where ``||w|| = 0 <
            ||g||``, and c / lambda where ``||g|| = 0 < ||w||``.
        adapts_without_decay: whether the ratio is not 1 where lambda is 0.
        epsilon: the default of ``epsilon``.
    """

    norm_of: Literal["gradient", "decayed_gradient", "momentum"] = "gradient"
    ratio_in_momentum: bool = True
    learning_rate_in_momentum: bool = True
    fallback_learning_rate_in_momentum: bool = False
    adds_decay: bool = True
    freezes_zero_weights: bool = False
    adapts_without_decay: bool = True
    epsilon: float = 0.0


LARS_VARIANTS: Mapping[str, LARSVariant] = {
    # The published pipeline: MLPerf v0.7, resnet-research-JAX, train.py, with
    # flax.optim.LARS after 2020-09-11. The record itself pins flax 484cc116 of
    # June 2020, which is flax_2020; kernels that start at random hardly differ.
    "mlperf": LARSVariant(),
    # MLPerf v0.7, resnet-cloud-TF2.0, and the newer tf.contrib.opt LARS.
    "mlperf_tf": LARSVariant(fallback_learning_rate_in_momentum=True),
    # The older tf.contrib.opt LARS, MLPerf v0.6: the rate is scaled by the
    # ratio, so both stand outside; decay is left to the loss.
    "contrib_old": LARSVariant(
        ratio_in_momentum=False,
        learning_rate_in_momentum=False,
        adds_decay=False,
    ),
    # optax.lars.
    "optax": LARSVariant(
        norm_of="decayed_gradient", fallback_learning_rate_in_momentum=True
    ),
    # official.modeling.optimization.lars of the TensorFlow Model Garden.
    "model_garden": LARSVariant(
        norm_of="decayed_gradient", fallback_learning_rate_in_momentum=True
    ),
    # The same with classic_momentum=False: the ratio of the whole buffer.
    "model_garden_outside": LARSVariant(
        norm_of="momentum",
        ratio_in_momentum=False,
        learning_rate_in_momentum=False,
    ),
    # timm.optim.Lars.
    "timm": LARSVariant(
        learning_rate_in_momentum=False,
        adapts_without_decay=False,
        epsilon=1e-8,
    ),
    # flax.optim.LARS before 2020-09-11.
    "flax_2020": LARSVariant(freezes_zero_weights=True),
}


@dataclasses.dataclass(frozen=True)
class LAMBVariant:
    """One published LAMB.

    Attributes:
        decay_in_ratio: whether ``lambda w`` is part of the update whose norm
            the ratio takes.
        zero_norm_ratio: the default of ``zero_norm_ratio``.
        bias_correction: the default of ``bias_correction``.
        epsilon: the default of ``epsilon``.
    """

    decay_in_ratio: bool = True
    zero_norm_ratio: float = 1.0
    bias_correction: bool = True
    epsilon: float = 1e-6


LAMB_VARIANTS: Mapping[str, LAMBVariant] = {
    # MLPerf v0.7 BERT; also tensorflow-addons, Model Garden and optax.
    "mlperf": LAMBVariant(),
    # keras.optimizers.Lamb: the decay outside the ratio.
    "keras": LAMBVariant(decay_in_ratio=False, epsilon=1e-7),
    # flax.optim.LAMB: a variable that starts at zero never moves.
    "flax": LAMBVariant(zero_norm_ratio=0.0),
    # google-research/albert, lamb_optimizer.py, by the LAMB paper's authors.
    "bert_2019": LAMBVariant(bias_correction=False),
}
