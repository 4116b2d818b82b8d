"""The pictures that the network gets: which, in which order, made how."""

import base64
import collections
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from official.modeling import hyperparams
from official.vision.dataloaders import classification_input
from PIL import Image

from tf_largebatch import records
from tf_largebatch.errors import UserError
from tf_largebatch.resnet import input as inputs

SMALL = {"image_size": 8, "dtype": "float32", "seed": 5}


def config(path="unused", **changes):
    return inputs.DataConfig(**{"input_path": path, **SMALL, **changes})


def context(host, hosts, replicas=None):
    return tf.distribute.InputContext(hosts, host, replicas or hosts)


def labels_of(dataset, count):
    """Returns the labels of the first ``count`` examples."""
    batches = [batch[1].numpy() for batch in dataset.unbatch().take(count)]
    return [int(label) for label in batches]


# ---------------------------------------------------------------------------
# One picture.

# 30 x 44 pixels, in which the brightness of the colours varies.
PICTURE = base64.b64decode("""
/9j/4AAQSkZJRgABAQEBLAEsAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9
PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBkeFxlZ2P/2wBDARESEhgVGC8aGi9jQjhC
Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wAAR
CAAeACwDASIAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAA
AgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkK
FhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWG
h4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl
5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREA
AgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYk
NOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOE
hYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk
5ebn6Onq8vP09fb3+Pn6/9oADAMBAAIRAxEAPwDdpjda5z+1b3/nt/46Kkj1G6YZaXP/AAEV
tToybPclhJxV20ampf8AHlJ+H86watS3c8sZR3yp6jAqvior5fUqSumjlqY2nhHyTTvvoQnq
aKaxO4/Wk3H1r0I42nBKLT0PKfvO66lr7J/t/pTkg2DG7P4VPSGtK8FShzQ3PYr4qqobjFh3
MBux+FSfY/8Ab/SnRf6wVYrzniaq6nlVF7d81TVj4/DXmxrJ9qxuGcbP/r0v/CLf9Pf/AJD/
APr1vWv/AB7Rf7oqWuVtvU3VONtj/9k=
""")
# Made by this code once; the functions below compute the same by other means.
STORED = {
    "seed 11": [
        [-0.82583, -0.71512, 1.72237, -0.98719, -0.69827, 2.18582]
        + [-0.38747, -0.81854, 0.74725, 1.13588, -0.87283, -1.43174],
        [-0.8631, -0.7625, 2.09827, -0.72171, -0.84483, 2.19045]
        + [-0.49742, -0.91144, 1.48761, 1.65303, -1.13008, -1.49895],
        [-1.02069, -0.44703, -0.46405, -0.74485, -0.63223, -0.48987]
        + [-0.98796, -0.54885, -0.28046, -1.70198, 0.15015, 1.28757],
        [-0.99727, -0.47303, -0.5499, -0.69867, -0.61722, -0.52087]
        + [-1.24203, -0.47097, 0.2253, -1.56986, 0.07327, 1.83369],
    ],
    "seed 12": [
        [1.67587, -1.95958, -0.13049, 1.56246, -1.96924, 0.30082]
        + [1.40967, -1.36814, 1.45647, 0.38541, -1.03371, 1.58688],
        [1.85059, -2.03147, 0.39829, 1.56224, -1.95551, 0.82005]
        + [1.24643, -1.46897, 1.85647, 0.48851, -0.96522, 1.71074],
        [1.46831, -1.2643, 1.57724, 1.21961, -1.14486, 1.4839]
        + [0.50966, -0.54705, 1.09317, -0.01712, -0.20863, 0.91069],
        [0.92706, -0.90733, 2.63964, 0.58137, -0.61256, 2.17955]
        + [-0.40409, 0.24906, -0.10552, -0.05414, 0.15746, 0.14031],
    ],
    "evaluation": [
        [1.81, 0.56427, 1.49249, 1.98437, 0.52464, 1.60607]
        + [1.58294, -1.1123, -1.48322, 0.8967, -0.89276, -0.79802],
        [1.68215, -1.69427, 0.97961, 1.22893, -1.40277, 2.076]
        + [-1.44167, -0.0207, 1.53395, -1.64939, 0.15557, 1.02786],
        [1.32795, -1.47951, 1.38617, 1.15966, -1.25803, 1.58629]
        + [-1.34169, -0.13505, 1.54323, -1.18603, -0.13337, 1.08794],
        [0.06564, -0.13321, 0.87692, -0.3706, 0.24822, 0.13414]
        + [0.56111, 0.372, 0.39528, 0.4567, 0.48113, 0.34743],
    ],
}


@pytest.mark.parametrize("kind", STORED)
def test_a_fixed_jpeg_and_seed_give_stored_values(kind):
    settings = config(image_size=4)
    if kind == "evaluation":
        image = inputs.evaluation_image(PICTURE, settings)
    else:
        seed = [3, int(kind.split()[1])]
        image = inputs.train_image(PICTURE, seed, settings)
    assert image.shape == (4, 4, 3) and image.dtype == tf.float32
    np.testing.assert_allclose(
        np.reshape(image, (4, 12)), STORED[kind], rtol=0, atol=2e-5
    )


def bicubic(size, length):
    """Returns the weights, (length, size), of bicubic interpolation.

    Keys's cubic convolution with a = -1/2, centres of pixels at half
    integers, no antialiasing. TensorFlow looks weights up in a table of 1,024
    entries a pixel, and leaves out pixels beyond the border.
    """
    place = (np.arange(length) + 0.5) * size / length - 0.5
    left = np.floor(place).astype(int)
    weights = np.zeros((length, size))
    for neighbour in range(-1, 3):
        x = abs(np.rint((place - left) * 1024) / 1024 - neighbour)
        near = 1.5 * x**3 - 2.5 * x**2 + 1
        far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        column = left + neighbour
        inside = (0 <= column) & (column < size)
        value = np.where(x <= 1, near, far)[inside]
        weights[np.arange(length)[inside], column[inside]] += value
    return weights / weights.sum(axis=1, keepdims=True)


def scale(pixels, size):
    """Returns pixels resized to a square and normalised, in float64."""
    height, width, _ = pixels.shape
    resized = np.einsum(
        "ih,jw,hwc->ijc", bicubic(height, size), bicubic(width, size), pixels
    )
    mean, stddev = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    return (resized / 255 - mean) / stddev


def blocks(height, width):
    """Returns a picture that any JPEG decoder reads alike."""
    shape = (-(-height // 8), -(-width // 8), 1)
    values = np.random.default_rng(height).integers(0, 256, shape)
    tiled = np.kron(values, np.ones((8, 8, 3)))
    return tiled[:height, :width].astype(np.uint8)


@pytest.mark.parametrize(
    "height, width, top, left, side",
    [
        (64, 64, 4, 4, 56),
        (48, 80, 3, 19, 42),
        (75, 41, 20, 3, 35),  # 0.875 * 41 = 35.875 is cut to 35.
        (42, 55, 3, 10, 36),  # The odd pixel is left out at the top or left.
        (33, 90, 3, 31, 28),
    ],
)
def test_evaluation_takes_the_centre_by_bicubic_interpolation(
    jpeg, height, width, top, left, side
):
    encoded = jpeg(blocks(height, width), quality=100)
    with Image.open(io.BytesIO(encoded)) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.float64)
    centre = pixels[top : top + side, left : left + side]
    for size in (16, 50):
        settings = config(image_size=size)
        expected = scale(centre, size)
        for image in (
            inputs.evaluation_image(encoded, settings),
            inputs.evaluation_picture(tf.constant(pixels), settings),
            inputs.evaluation_picture(tf.constant(pixels, tf.uint8), settings),
        ):
            np.testing.assert_allclose(image, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("height, width", [(64, 64), (48, 80), (96, 64)])
def test_evaluation_is_the_model_gardens_with_bicubic(jpeg, height, width):
    """At sizes that divide; at others it rounds another way than MLPerf."""
    encoded = jpeg(blocks(height, width), chroma_downsampling=True)
    parser = classification_input.Parser(
        [24, 24], 1001, tf_resize_method="bicubic"
    )
    tensors = {"image/encoded": encoded, "image/class/label": 1}
    expected, _ = parser.parse_fn(is_training=False)(tensors)
    image = inputs.evaluation_image(encoded, config(image_size=24))
    np.testing.assert_allclose(image, expected, rtol=0, atol=1e-5)


def test_gray_pictures_get_three_channels(jpeg):
    gray = blocks(40, 40)[..., :1]
    image = inputs.evaluation_image(jpeg(gray), config())
    assert image.shape == (8, 8, 3)
    pixels = image * inputs.STDDEV + inputs.MEAN
    np.testing.assert_allclose(pixels[..., 0], pixels[..., 2], atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtypes_are_the_float32_picture_rounded(dtype):
    whole, rounded = config(), config(dtype=dtype)
    for function in (
        inputs.evaluation_image,
        lambda encoded, each: inputs.train_image(encoded, [1, 2], each),
    ):
        expected = tf.cast(function(PICTURE, whole), dtype)
        image = function(PICTURE, rounded)
        assert image.dtype == dtype
        np.testing.assert_array_equal(image, expected)


def test_evaluation_works_in_a_saved_model(tmp_path):
    settings = config()
    module = tf.Module()
    module.prepare = tf.function(
        lambda encoded: inputs.evaluation_image(encoded, settings),
        input_signature=[tf.TensorSpec((), tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_array_equal(
        loaded.prepare(PICTURE), inputs.evaluation_image(PICTURE, settings)
    )


# ---------------------------------------------------------------------------
# Random crops. Colours of this picture say where a pixel was.

SIDE = 240


@pytest.fixture(scope="module")
def map_jpeg(jpeg):
    """Red grows by 1 a pixel to the right, green by 1 a pixel downwards."""
    row = np.arange(SIDE)
    red, green = np.meshgrid(row, row)
    pixels = np.stack([red, green, np.full_like(red, 128)], -1)
    return jpeg(pixels.astype(np.uint8), quality=100)


def crops(encoded, count=300, **changes):
    """Returns height, width and whether mirrored of crops, from colours."""
    settings = config(image_size=6, **changes)
    images = tf.data.Dataset.range(count).map(
        lambda index: inputs.train_image(encoded, [9, index], settings),
        tf.data.AUTOTUNE,
    )
    pixels = np.stack([*images.as_numpy_iterator()])
    pixels = pixels * inputs.STDDEV + inputs.MEAN
    # Between the outermost centres lie 5 of 6 parts of the crop; those are
    # left out because interpolation is not linear at the border.
    right = (pixels[:, :, 4, 0] - pixels[:, :, 1, 0]).mean(1) * 2
    down = (pixels[:, 4, :, 1] - pixels[:, 1, :, 1]).mean(1) * 2
    return down, abs(right), right < 0


@pytest.mark.parametrize("low, high", [(0.05, 1.0), (0.08, 0.2), (0.5, 0.7)])
def test_the_area_range_bounds_the_crops(map_jpeg, low, high):
    height, width, _ = crops(map_jpeg, area_range=[low, high])
    area = height * width / SIDE**2
    assert low * 0.95 < area.min() and area.max() < high * 1.05
    assert area.min() < low + 0.15 * (high - low)
    assert area.max() > high - 0.25 * (high - low)


@pytest.mark.parametrize("low, high", [(0.75, 1.33), (1.5, 2.0), (0.4, 0.5)])
def test_the_aspect_ratio_range_bounds_the_crops(map_jpeg, low, high):
    height, width, _ = crops(
        map_jpeg, aspect_ratio_range=[low, high], area_range=[0.1, 0.4]
    )
    aspect = width / height
    assert low * 0.97 < aspect.min() and aspect.max() < high * 1.03
    assert aspect.min() < low + 0.1 * (high - low)
    assert aspect.max() > high - 0.1 * (high - low)


def test_crops_cover_at_least_min_object_covered(map_jpeg):
    height, width, _ = crops(map_jpeg, min_object_covered=0.6, max_attempts=100)
    area = height * width / SIDE**2
    assert 0.57 < area.min() < 0.7


def test_the_whole_picture_is_taken_where_no_crop_fits(map_jpeg):
    height, width, _ = crops(
        map_jpeg, 50, aspect_ratio_range=[2.0, 2.1], area_range=[0.9, 1.0]
    )
    np.testing.assert_allclose(height, SIDE, rtol=0.02)
    np.testing.assert_allclose(width, SIDE, rtol=0.02)


def test_more_attempts_find_more_crops(map_jpeg):
    def whole(attempts):
        height, width, _ = crops(
            map_jpeg, min_object_covered=0.5, max_attempts=attempts
        )
        return (height * width > 0.97 * SIDE**2).sum()

    assert whole(1) > 2 * whole(3) > 4 * whole(10)


def test_every_other_picture_is_mirrored(map_jpeg):
    assert 115 < crops(map_jpeg)[2].sum() < 185
    assert not crops(map_jpeg, flip=False)[2].any()


def test_crop_and_mirror_are_independent(map_jpeg):
    height, width, mirrored = crops(map_jpeg, 600)
    for value in (height * width, width / height):
        correlation = np.corrcoef(value, mirrored)[0, 1]
        assert abs(correlation) < 4 / np.sqrt(600)


def test_a_crop_is_scaled_like_an_evaluation_picture(jpeg):
    """Where the crop is the whole picture, for want of one that fits."""
    encoded = jpeg(blocks(64, 40), quality=100)
    settings = config(area_range=[0.99, 1.0], aspect_ratio_range=[3.0, 3.0])
    pixels = tf.io.decode_jpeg(encoded).numpy().astype(np.float64)
    expected = scale(pixels, 8)
    found = set()
    for index in range(12):
        image = inputs.train_image(encoded, [0, index], settings)
        same = np.allclose(image, expected, rtol=0, atol=1e-5)
        mirrored = np.allclose(image, expected[:, ::-1], rtol=0, atol=1e-5)
        assert same or mirrored
        found.add(same)
    assert found == {True, False}


# ---------------------------------------------------------------------------
# Training: which example when.


def train_labels(path, count, settings=None, **arguments):
    settings = settings or config(path)
    dataset = inputs.train_dataset(
        settings,
        arguments.pop("where", None),
        arguments.pop("micro_batch_size", 4),
        **arguments,
    )
    return labels_of(dataset, count)


@pytest.mark.parametrize("cache", [False, True])
def test_every_epoch_has_every_example_once_in_a_new_order(shards, cache):
    settings = config(shards(5, 4, 4), cache=cache, shuffle_buffer_size=4)
    labels = np.reshape(train_labels(None, 39, settings), (3, 13))
    for epoch in labels:
        assert sorted(epoch) == list(range(13))
    orders = {tuple(epoch) for epoch in labels}
    assert len(orders) == 3 and tuple(range(13)) not in orders


def test_batches_have_a_fixed_shape_and_run_over_epochs(shards):
    dataset = inputs.train_dataset(config(shards(3, 2)), None, 4)
    images, labels = dataset.element_spec
    assert images.shape == (4, 8, 8, 3) and images.dtype == tf.float32
    assert labels.shape == (4,) and labels.dtype == tf.int32
    counts = collections.Counter(labels_of(dataset, 20))
    assert set(counts.values()) == {4}


def pictures_of(settings, count=12, **arguments):
    dataset = inputs.train_dataset(settings, None, 4, **arguments)
    pairs = [*dataset.unbatch().take(count).as_numpy_iterator()]
    return [x for x, _ in pairs], [int(y) for _, y in pairs]


def test_the_seed_decides_order_and_augmentation(shards):
    path = shards(6, 6, 6)
    images, labels = pictures_of(config(path))
    tf.random.set_seed(77)
    same_images, same_labels = pictures_of(config(path))
    assert labels == same_labels
    np.testing.assert_array_equal(images, same_images)
    other_images, other_labels = pictures_of(config(path, seed=6))
    assert labels != other_labels
    common = {label: image for label, image in zip(labels, images)}
    for image, label in zip(other_images, other_labels):
        assert (image != common.get(label, 0)).any()


def test_without_a_seed_every_dataset_is_another(shards):
    settings = config(shards(9, 9), seed=None)
    assert pictures_of(settings)[1] != pictures_of(settings)[1]


def test_an_example_is_cropped_anew_in_every_epoch(shards):
    images, labels = pictures_of(config(shards(1)), 8)
    assert labels == [0] * 8
    assert len({image.tobytes() for image in images}) == 8


@pytest.mark.parametrize("first", [0, 1, 12, 13, 17, 26, 44])
@pytest.mark.parametrize("cache", [False, True])
def test_a_run_goes_on_where_it_stopped(shards, first, cache):
    settings = config(shards(5, 4, 4), cache=cache, shuffle_buffer_size=6)
    images, labels = pictures_of(settings, first + 8)
    rest_images, rest_labels = pictures_of(settings, 8, first_example=first)
    assert rest_labels == labels[first:]
    np.testing.assert_array_equal(rest_images, images[first:])


@pytest.mark.parametrize("hosts", [1, 2, 4, 6])
@pytest.mark.parametrize("cache", [False, True])
def test_hosts_share_the_examples(shards, hosts, cache):
    """With 4 files, and so also where there are more hosts than files."""
    settings = config(shards(6, 6, 6, 6), cache=cache)
    share = 24 // hosts
    parts = [
        train_labels(None, share, settings, where=context(host, hosts))
        for host in range(hosts)
    ]
    assert sorted(sum(parts, [])) == list(range(24))


def test_hosts_go_on_together_where_they_stopped(shards):
    settings = config(shards(6, 6, 6))
    for host in range(3):
        where = context(host, 3)
        labels = train_labels(None, 12, settings, where=where)
        rest = train_labels(None, 4, settings, where=where, first_example=24)
        assert rest == labels[8:]


def test_hosts_augment_differently(shards):
    settings = config(shards(1, 1))
    images = [
        next(iter(inputs.train_dataset(settings, context(host, 2), 1)))[0]
        for host in range(2)
    ]
    assert (images[0] != images[1]).numpy().any()


def test_the_cache_reads_the_files_once(shards):
    path = shards(3, 3)
    settings = config(path, cache=True)
    dataset = inputs.train_dataset(settings, None, 2)
    examples = iter(dataset.unbatch())
    labels = [int(next(examples)[1]) for _ in range(6)]
    assert sorted(labels) == list(range(6))
    for file in Path(path).parent.iterdir():
        file.unlink()
    for _ in range(6):
        labels.append(int(next(examples)[1]))
    assert sorted(labels[6:]) == list(range(6))


def test_the_shuffle_buffer_bounds_how_far_examples_move(shards):
    path = shards(40)
    near = train_labels(None, 40, config(path, shuffle_buffer_size=3))
    far = train_labels(None, 40, config(path, shuffle_buffer_size=40))
    assert all(label < place + 3 for place, label in enumerate(near))
    assert max(np.array(far) - np.arange(40)) > 20


# ---------------------------------------------------------------------------
# Labels.


@pytest.fixture(scope="module")
def imagenet_labels(small_jpeg, record, write, prepare, tmp_path_factory):
    """The first and the last class, in files and as a data set of TFDS."""
    folder = tmp_path_factory.mktemp("labels")
    pairs = [record(small_jpeg, label) for label in (1, 1000)]
    path = write(folder / "train-00000-of-00001", pairs)
    prepare(folder, small_jpeg, [0, 999], files=1)
    tfds = {
        "tfds_name": "labelled_pictures",
        "tfds_split": "train",
        "tfds_data_dir": str(folder),
    }
    return {"files": {"input_path": str(path)}, "tfds": tfds}


@pytest.mark.parametrize("source", ["files", "tfds"])
def test_classes_are_0_to_999(imagenet_labels, source):
    settings = inputs.DataConfig(**imagenet_labels[source], **SMALL)
    train = inputs.train_dataset(settings, None, 2)
    evaluation = inputs.evaluation_dataset(settings, None, 2, 1)
    for dataset in (train, evaluation):
        assert sorted(labels_of(dataset, 2)) == [0, 999]


@pytest.mark.parametrize("source, offset", [("files", 0), ("tfds", 1)])
def test_a_label_offset_keeps_class_0_for_the_background(
    imagenet_labels, source, offset
):
    settings = inputs.DataConfig(
        **imagenet_labels[source],
        **SMALL,
        label_offset=offset,
        num_classes=1001,
    )
    dataset = inputs.evaluation_dataset(settings, None, 2, 1)
    assert sorted(labels_of(dataset, 2)) == [1, 1000]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "source, changes, words, number",
    [
        ("files", {"num_classes": 999}, "1000, not one of 1 to 999", 1),
        ("tfds", {"num_classes": 999}, "999, not one of 0 to 998", None),
        ("files", {"label_offset": -2}, "1, not one of 2 to 1001", 0),
    ],
)
def test_labels_out_of_range_are_named(
    imagenet_labels, source, training, changes, words, number
):
    settings = inputs.DataConfig(**imagenet_labels[source], **SMALL, **changes)
    with pytest.raises(UserError) as caught:
        with inputs.naming_broken_records(settings):
            if training:
                train_labels(None, 2, settings)
            else:
                list(inputs.evaluation_dataset(settings, None, 2, 1))
    assert f"the label is {words}, in " in str(caught.value)
    if number is not None:  # TFDS mixes the examples.
        assert f"record {number} (the first is 0)" in str(caught.value)


# ---------------------------------------------------------------------------
# Evaluation: everything once.


@pytest.mark.parametrize(
    "examples, batch, hosts, replicas, steps",
    [
        (10, 4, 1, 1, 3),
        (10, 4, 1, 2, 2),  # 4 a replica.
        (10, 2, 1, 2, 3),  # 4 over both.
        (50, 64, 1, 1, 1),
        (50, 64, 1, 2, 1),
        (50, 64, 2, 4, 1),
        (50, 16, 2, 4, 1),
        (50, 8, 2, 4, 2),
        (50, 5, 2, 4, 3),
        (48, 12, 2, 4, 1),  # No padding.
        (3, 2, 4, 4, 1),  # A host without examples.
    ],
)
def test_evaluation_has_every_example_once(
    shards, examples, batch, hosts, replicas, steps
):
    third = examples // 3
    path = shards(third, third, examples - 2 * third)
    settings = config(path, num_examples=examples)
    found = []
    for host in range(hosts):
        dataset = inputs.evaluation_dataset(
            settings, context(host, hosts, replicas), batch, replicas
        )
        batches = [*dataset.as_numpy_iterator()]
        # Each replica of this host gets as many batches as any other.
        assert len(batches) == len(dataset) == steps * replicas // hosts
        for images, labels, weights in batches:
            assert images.shape == (batch, 8, 8, 3)
            assert labels.shape == weights.shape == (batch,)
            assert set(weights) <= {0.0, 1.0}
            assert not images[weights == 0].any()
            found += labels[weights == 1].tolist()
    assert sorted(found) == list(range(examples))


def test_evaluation_is_spread_evenly_over_hosts(shards):
    for host, count in ((0, 5), (1, 5)):
        dataset = inputs.evaluation_dataset(
            config(shards(7, 3)), context(host, 2, 4), 4, 4
        )
        assert sum(float(sum(weights)) for _, _, weights in dataset) == count


@pytest.mark.parametrize("cache", [False, True])
def test_evaluation_has_a_fixed_order_and_fixed_pictures(shards, cache):
    settings = config(shards(9, 9), seed=None, cache=cache)
    dataset = inputs.evaluation_dataset(settings, None, 4, 1)
    first = [*dataset.as_numpy_iterator()]
    other = inputs.evaluation_dataset(settings, None, 4, 1)
    for again in (dataset, other):
        for one, two in zip(first, again.as_numpy_iterator(), strict=True):
            for a, b in zip(one, two):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("examples", [8, 9])
def test_the_cache_of_evaluation_reads_the_files_once(shards, examples):
    """With and without padding."""
    path = shards(examples)
    settings = config(path, cache=True)
    dataset = inputs.evaluation_dataset(settings, None, 4, 1)
    first = [labels.tolist() for _, labels, _ in dataset.as_numpy_iterator()]
    Path(path.replace("*", "00000-of-00001")).unlink()
    again = [labels.tolist() for _, labels, _ in dataset.as_numpy_iterator()]
    assert first == again


@pytest.mark.parametrize("number", [12, 14])
def test_evaluation_must_find_num_examples(shards, number):
    settings = config(shards(6, 7), num_examples=number)
    with pytest.raises(UserError, match=f"13 examples, not .* {number}, in"):
        inputs.evaluation_dataset(settings, None, 4, 1)


# ---------------------------------------------------------------------------
# What is wrong.


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("damage", ["JPEG", "record"])
def test_what_breaks_a_step_is_named(
    tmp_path, write, record, small_jpeg, training, damage
):
    """On two replicas, inside a compiled step."""
    good = record(small_jpeg, 1)
    bad = record(small_jpeg[:60], 1) if damage == "JPEG" else good
    write(tmp_path / "train-0", [good] * 4)
    path = write(tmp_path / "train-1", [good, good, bad, good])
    if damage == "record":
        content = bytearray(path.read_bytes())
        content[len(content) * 5 // 8] ^= 1
        path.write_bytes(content)
    settings = config(f"{tmp_path}/train-*")
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])

    def build(where):
        if training:
            return inputs.train_dataset(settings, where, 2)
        return inputs.evaluation_dataset(settings, where, 2, 1)

    batches = iter(strategy.distribute_datasets_from_function(build))

    @tf.function
    def step():
        return strategy.run(lambda images, *_: images, next(batches))

    with pytest.raises(UserError) as caught:
        with inputs.naming_broken_records(settings):
            for _ in range(4):
                step()
    message = str(caught.value)
    assert f"in {path}, record 2 (the first is 0)" in message
    assert "\n" not in message


def test_other_failures_keep_their_name(shards):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Incompatible"):
        with inputs.naming_broken_records(config(shards(1))):
            tf.constant([1, 2]) + tf.constant([1, 2, 3])


MISTAKES = [
    ({"input_path": ""}, "neither of input_path and tfds_name are set"),
    ({"tfds_name": "imagenet2012"}, "both of input_path and tfds_name are set"),
    ({"input_path": "/no/such/train-*"}, "no file matches '/no/such/train-*'"),
    ({"dtype": "bfloat"}, "dtype is 'bfloat'; did you mean bfloat16?"),
    ({"area_range": [0.0, 1.0]}, "area_range is [0.0, 1.0]; give two"),
    ({"area_range": [0.5, 0.4]}, "area_range is [0.5, 0.4]; give two"),
    ({"area_range": [0.5, 1.1]}, "area_range is [0.5, 1.1]; give two"),
    ({"area_range": [0.5]}, "area_range is [0.5]; give two"),
    ({"aspect_ratio_range": [-1, 1]}, "aspect_ratio_range is [-1, 1]"),
    ({"image_size": 0}, "image_size is 0; give 1 or more"),
    ({"shuffle_buffer_size": 0}, "shuffle_buffer_size is 0; give 1 or more"),
]


@pytest.mark.parametrize("changes, words", MISTAKES)
def test_a_mistake_in_the_config_is_one_line(changes, words):
    settings = config(**changes)
    for build in (
        lambda: inputs.train_dataset(settings, None, 2),
        lambda: inputs.evaluation_dataset(settings, None, 2, 1),
    ):
        with pytest.raises(UserError) as caught:
            build()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_config_is_plain_yaml_and_comes_back(tmp_path):
    given = config("a,b", area_range=[0.08, 1.0], seed=None)
    path = tmp_path / "params.yaml"
    hyperparams.save_params_dict_to_yaml(given, str(path))
    assert yaml.safe_load(path.read_text()) == given.as_dict()
    back = hyperparams.override_params_dict(
        inputs.DataConfig(), str(path), is_strict=True
    )
    assert back.as_dict() == given.as_dict()


def test_every_field_is_documented():
    words = "".join(
        each.__doc__.split("Attributes:")[1]
        for each in (inputs.DataConfig, records.DataConfig)
    )
    for field in dataclasses.fields(inputs.DataConfig):
        assert f"\n        {field.name}: " in words


def test_the_defaults_are_the_published_pipelines():
    given = inputs.DataConfig()
    assert (given.area_range, given.aspect_ratio_range) == (
        [0.05, 1.0],
        [0.75, 1.33],
    )
    assert (given.min_object_covered, given.max_attempts) == (0.1, 10)
    assert (given.image_size, given.flip) == (224, True)
    assert (given.shuffle_buffer_size, given.dtype) == (16384, "bfloat16")
