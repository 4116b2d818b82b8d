"""What BIAS_AND_NORM selects in all layers of both Keras and of the Garden.

Every layer is built, with arguments by their names. A release that brings a
variable of another name fails here, and one decides about it.
"""

import contextlib
import functools
import importlib
import inspect

import keras
import pytest
import tensorflow as tf
import tf_keras

from tf_largebatch.variables import is_bias_or_norm, path_of

pytestmark = pytest.mark.slow  # Half a minute; layers change with releases.

LIBRARIES = {
    "keras.layers": keras,
    "tf_keras.layers": tf_keras,
    "official.nlp.modeling.layers": tf_keras,
    "official.vision.modeling.layers": tf_keras,
}

# Of rank 2 or more: what gets neither weight decay nor layer adaptation.
LEFT_OUT = {
    "alpha",  # PReLU's slopes, of He et al. 2015: decay would make it a ReLU.
    "bias",  # Of attention, EinsumDense, GRU, local convolutions, experts.
    "content_attention_bias",  # XLNet's and Transformer-XL's.
    "positional_attention_bias",
    "segment_attention_bias",
}
# Of rank 2 or more: what gets both.
KERNELS = {
    "depthwise_kernel",
    "embeddings",
    "hidden_kernel",
    "imag_kernel",
    "kernel",
    # LoRA's two factors of a change of a kernel: the second starts at zero.
    *("lora_embeddings_a", "lora_embeddings_b"),
    *("lora_kernel_a", "lora_kernel_b"),
    "pointwise_kernel",
    "post_softmax_weight",
    "pre_softmax_weight",
    "real_kernel",
    "recurrent_kernel",
    "rel_embedding",
    "seq_kernel",
}

# By the names of arguments, where a layer has no default.
ARGUMENTS = {
    "activation": "relu",
    "attention_dropout_rate": 0.0,
    "bias_axes": "d",
    "dropout": 0.1,
    "dropout_rate": 0.0,
    "embedding_width": 4,
    "equation": "abc,cd->abd",
    "expand_ratio": 2,
    "factor": 0.5,
    "filters": 4,
    "groups": 2,
    "head_dim": 2,
    "head_size": 2,
    "hidden_size": 4,
    "in_filters": 4,
    "inner_activation": "relu",
    "inner_dim": 4,
    "input_dim": 5,
    "intermediate_activation": "relu",
    "intermediate_size": 4,
    "kernel_size": 2,
    "key_dim": 2,
    "max_length": 8,
    "max_sequence_length": 8,
    "num_attention_heads": 2,
    "num_classes": 2,
    "num_experts": 2,
    "num_heads": 2,
    "num_key_value_heads": 1,
    "num_layers": 1,
    "num_queries": 2,
    "num_query_heads": 2,
    "out_filters": 4,
    "output_dim": 2,
    "output_shape": (None, 2),
    "se_ratio": 0.5,
    "strides": 1,
    "temporal_kernel_size": 1,
    "units": 2,
    "use_xla": False,
    "vocab_size": 5,
    "word_embed_size": 4,
    "word_vocab_size": 5,
    "type_vocab_size": 2,
    "output_embed_size": 4,
}
SHAPES = [(2, 4), (2, 4, 4), (2, 4, 4, 4), (2, 4, 4, 4, 4)]


def layer_arguments(library):
    """Returns the arguments that are layers themselves."""
    layers = library.layers
    return {
        "layer": layers.LSTM(2),
        "cell": layers.LSTMCell(2),
        "cells": [layers.LSTMCell(2)],
    }


def made(kind, library):
    """Returns a layer; TypeError if an argument has no value here."""
    known = {**ARGUMENTS, **layer_arguments(library)}
    chosen = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        needed = parameter.default is parameter.empty
        variadic = parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        if name in ("bias_axes", "groups") or (needed and not variadic):
            if name not in known:
                raise TypeError(f"no value for {name}")
            chosen[name] = known[name]
    if issubclass(kind, tf_keras.layers.MultiHeadAttention):
        chosen |= {"num_heads": 4, "key_dim": 2}
    return kind(**chosen)


def relative(layer, x):
    """Calls attention with relative positions, as XLNet has it."""
    heads = tf.ones((4, 2))
    return layer(
        query=x,
        value=x,
        content_attention_bias=heads,
        positional_attention_bias=heads,
        relative_position_encoding=tf.ones((2, 8, 4)),
    )


CALLS = [
    lambda layer, x: layer(x),
    lambda layer, x: layer([x, x]),
    lambda layer, x: layer(x, x),
    lambda layer, x: layer(x, [x[:, :2], x[:, :2]]),
    lambda layer, x: layer(tf.cast(x, tf.int32)),
    lambda layer, x: layer(tf.cast(x, tf.int32), tf.cast(x, tf.int32)),
    relative,
]


def weights_of(kind, library):
    """Yields the trainable weights for each rank that a layer takes."""
    for shape in SHAPES:
        for call in CALLS:
            layer = made(kind, library)
            try:
                call(layer, tf.ones(shape))
            except Exception:  # noqa: BLE001 - Whatever a layer raises.
                continue
            yield from layer.trainable_weights
            break


def tokens(size=4):
    return tf.ones((2, 4, size))


def call_xl(kind):
    layer = kind(
        *(5, 1, 4, 2, 2, 4, 0.0, 0.0, "zeros"), tie_attention_biases=False
    )
    layer(
        tokens(),
        relative_position_encoding=tf.ones((2, 8, 4)),
        segment_matrix=tf.ones((2, 4, 4), tf.bool),
        segment_embedding=tf.ones((1, 2, 2, 2)),
    )
    return layer


def call_masked(kind):
    layer = kind(embedding_table=tf.ones((5, 4)))
    layer(tokens(), masked_positions=tf.ones((2, 1), tf.int32))
    return layer


def call_experts(kind):
    layer = kind(
        num_experts=2, d_ff=4, output_dropout=0.0, activation=tf.nn.relu
    )
    layer(tf.ones((2, 2, 4, 4)), training=False)
    return layer


def call_voting(kind):
    layer = kind(2, 2)
    layer(tf.ones((2, 3, 4, 4)), tf.ones((2, 3)))
    return layer


def call_channels(kind):
    layer = kind(2, 2)
    documents = tf.ones((2, 3, 4, 4))
    layer(tokens(), documents, context_attention_weights=tf.ones((2, 2, 4, 3)))
    return layer


def call_decoder(kind):
    layer = kind(2, 4, "relu")
    mask = tf.ones((2, 4, 4))
    layer([tokens(), tokens(), mask, mask])
    return layer


def call_heads(kind):
    layer = kind(num_queries=3, features=4)
    layer(tf.ones((2, 3, 4)))
    return layer


def call_mobile(kind):
    layer = kind(hidden_size=4, num_attention_heads=2, intermediate_size=4)
    layer(tokens())
    return layer


def call_classes(kind):
    layer = kind(4, [("first", 2), ("second", 3)])
    layer(tokens())
    return layer


def call_queries(kind):
    layer = kind(num_kv_heads=2, num_heads=4, key_dim=2)
    layer(tokens(), tokens())
    return layer


def call_lora(kind):
    layer = kind(4)
    layer(tokens())
    layer.enable_lora(2)
    return layer


def call_embedded_lora(kind):
    layer = kind(5, 4)
    layer(tf.ones((2, 4), tf.int32))
    layer.enable_lora(2)
    return layer


def call_wrapped(kind):
    layer = kind(tf_keras.layers.Conv2D(2, 2))
    layer(tf.ones((2, 4, 4, 4)))
    return layer


# What takes arguments of a kind of its own.
SPECIAL = {
    "TransformerXL": call_xl,
    "MaskedLM": call_masked,
    "FeedForwardExperts": call_experts,
    "VotingAttention": call_voting,
    "MultiChannelAttention": call_channels,
    "TransformerDecoderBlock": call_decoder,
    "PerQueryDenseHead": call_heads,
    "MobileBertTransformer": call_mobile,
    "MultiClsHeads": call_classes,
    "MultiQueryAttention": call_queries,
    "SpectralNormalizationConv2D": call_wrapped,
}
SPECIAL_OF_KERAS_3 = {"Dense": call_lora, "Embedding": call_embedded_lora}


def layers_of(module):
    """Yields the names and classes of a module's layers."""
    base = LIBRARIES[module].layers.Layer
    for name, kind in sorted(vars(importlib.import_module(module)).items()):
        if inspect.isclass(kind) and issubclass(kind, base):
            yield name, kind


@functools.cache
def selected(module):
    """Returns what is selected of each weight, by name and rank, and layers."""
    library, found, built = LIBRARIES[module], {}, set()
    special = SPECIAL_OF_KERAS_3 if library is keras else SPECIAL
    for name, kind in layers_of(module):
        weights = []
        with contextlib.suppress(Exception):  # It takes other arguments.
            weights += weights_of(kind, library)
        if name in special:
            weights += special[name](kind).trainable_weights
        for weight in weights:
            path = getattr(weight, "path", None) or path_of(weight.name)
            last, shape = path.split("/")[-1], tuple(weight.shape)
            found[last, len(shape)] = is_bias_or_norm(path, shape)
            built.add(name)
    return found, built


@pytest.mark.parametrize("module", LIBRARIES)
def test_what_is_selected_is_what_was_decided(module):
    found, _ = selected(module)
    for (name, rank), is_selected in found.items():
        if rank < 2:
            assert is_selected
        else:
            assert name in (LEFT_OUT if is_selected else KERNELS), name


MUST_BE_BUILT = {
    "keras.layers": {
        *("Dense", "EinsumDense", "Embedding", "GRU", "GroupNormalization"),
        *("GroupQueryAttention", "MultiHeadAttention", "PReLU"),
        "RMSNormalization",
    },
    "tf_keras.layers": {
        *("Dense", "EinsumDense", "Embedding", "GRU", "GroupNormalization"),
        *("LocallyConnected2D", "MultiHeadAttention", "PReLU"),
    },
    "official.nlp.modeling.layers": {
        *SPECIAL,
        *("ReZeroTransformer", "TalkingHeadsAttention", "Transformer"),
    },
    "official.vision.modeling.layers": {
        *("ResidualInner", "SqueezeExcitation"),
    },
}


@pytest.mark.parametrize("module", LIBRARIES)
def test_the_layers_with_names_of_their_own_are_built(module):
    _, built = selected(module)
    assert MUST_BE_BUILT[module] <= built
