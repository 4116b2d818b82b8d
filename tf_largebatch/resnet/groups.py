"""The arithmetic of ghost batch norm, for the layers of both Keras families.

Images have the shape (batch, height, width, channels) and any dtype that
TensorFlow's kernel takes: float32, bfloat16 or float16. Everything else is
float32, and so is the arithmetic.
"""

import tensorflow as tf

Normalized = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def normalize(
    images: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """Normalises by the given statistics, as in evaluation."""
    # Not tf.nn's function, which raises epsilon to 1.001e-5.
    return tf.raw_ops.FusedBatchNormV3(
        x=images,
        scale=gamma,
        offset=beta,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        is_training=False,
    )[0]


def normalize_groups(
    images: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    virtual_batch_size: int,
    epsilon: float,
) -> Normalized:
    """Normalises each group of examples by its own statistics.

    Groups are neighbours: the first ``virtual_batch_size`` examples, the next
    and so on. Where the batch is known while tracing, as it should be, each
    group is an operation of its own, because that is the fastest.

    Returns:
        The images normalised, and the mean and the biased variance of every
        group, each of shape (groups, channels).

    Raises:
        ValueError: ``virtual_batch_size`` does not divide the batch. It is an
            InvalidArgumentError at run time if the batch is not known before.
    """
    if images.shape[0] is None:
        return _normalize_unknown(
            images, gamma, beta, virtual_batch_size, epsilon
        )
    groups = tf.split(images, count_groups(images.shape[0], virtual_batch_size))
    outputs, means, variances = zip(
        *(normalize_group(group, gamma, beta, epsilon) for group in groups)
    )
    return tf.concat(outputs, 0), tf.stack(means), tf.stack(variances)


def _normalize_unknown(
    images: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    virtual_batch_size: int,
    epsilon: float,
) -> Normalized:
    """Does :func:`normalize_groups` for a batch known only at run time.

    Keras traces training so when it saves a model.
    """
    shape = tf.shape(images)
    check = tf.debugging.assert_equal(
        shape[0] % virtual_batch_size,
        0,
        message=_message(virtual_batch_size),
    )
    with tf.control_dependencies([check]):
        groups = tf.reshape(
            images, tf.concat([[-1, virtual_batch_size], shape[1:]], 0)
        )
    outputs, means, variances = tf.map_fn(
        lambda group: normalize_group(group, gamma, beta, epsilon),
        groups,
        fn_output_signature=(images.dtype, tf.float32, tf.float32),
    )
    return tf.reshape(outputs, shape), means, variances


def count_groups(batch: int, virtual_batch_size: int) -> int:
    """Returns how many groups a batch makes; ValueError if it does not."""
    if not batch or batch % virtual_batch_size:
        raise ValueError(f"{_message(virtual_batch_size)}. Received: {batch}")
    return batch // virtual_batch_size


def _message(virtual_batch_size: int) -> str:
    return (
        "the batch must be a multiple of virtual_batch_size, which is "
        f"{virtual_batch_size}"
    )


def normalize_group(
    images: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> Normalized:
    """Returns images normalised by their own mean and variance, and these."""
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=images,
        scale=gamma,
        offset=beta,
        mean=tf.zeros((0,)),
        variance=tf.zeros((0,)),
        epsilon=epsilon,
        is_training=True,
    )
    # The kernel gives n / (n - 1) times the biased variance.
    n = tf.cast(tf.size(images) // images.shape[-1], tf.float32)
    return outputs, mean, variance * (n - 1) / n
