"""Labelled pictures: found in files and in TFDS, and checked."""

import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_largebatch import records
from tf_largebatch.errors import UserError
from tf_largebatch.resnet import sources


@pytest.fixture(scope="module")
def tfds_folder(small_jpeg, prepare, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    return prepare(folder, small_jpeg, [0, 999, *range(1, 9)], files=3)


def labels_of(source, pieces):
    return [
        int(source.parse(serialized)[1]) for serialized in records.read(pieces)
    ]


def test_a_picture_of_imagenets_form_has_a_label_from_1(shards):
    source = sources.open_files(shards(2, 3))
    assert source.first_label == 1
    assert sorted(labels_of(source, source.pieces)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_spans_of_a_part_of_a_split(tfds_folder, hosts):
    source = sources.open_tfds("labelled_pictures", "train[2:9]", tfds_folder)
    shares = [
        labels_of(source, source.span(host, hosts)) for host in range(hosts)
    ]
    expected = labels_of(source, source.pieces)
    assert len(expected) == 7
    assert sorted(sum(shares, [])) == sorted(expected)


def test_jpegs_are_handed_on_as_they_are(shards, small_jpeg, tfds_folder):
    for source in (
        sources.open_files(shards(1)),
        sources.open_tfds("labelled_pictures", "train", tfds_folder),
    ):
        (serialized,) = records.read(source.pieces).take(1)
        assert source.parse(serialized)[0].numpy() == small_jpeg


def test_tfds_counts_without_reading(tfds_folder):
    source = sources.open_tfds("labelled_pictures", "train", tfds_folder)
    assert len(source.pieces) == 3
    for piece in source.pieces:
        assert piece.take > 0
    assert sum(source.counts) == 10
    assert sorted(labels_of(source, source.pieces)) == [*range(9), 999]


@pytest.mark.parametrize("split, count", [("train[:40%]", 4), ("train[3:]", 7)])
def test_splits_of_tfds_may_be_cut(tfds_folder, split, count):
    source = sources.open_tfds("labelled_pictures", split, tfds_folder)
    assert sum(source.counts) == count
    assert len(labels_of(source, source.pieces)) == count


def test_a_split_of_tfds_without_examples(tfds_folder):
    with pytest.raises(UserError, match=r"no examples in 'train\[:0\]'"):
        sources.open_tfds("labelled_pictures", "train[:0]", tfds_folder)


@pytest.mark.parametrize(
    "features, form, words",
    [
        (["text"], "TFRECORD", "has no image and label but text"),
        (["image", "label"], "ARRAY_RECORD", "as array_record; prepare it"),
    ],
)
def test_data_sets_of_tfds_that_are_of_another_kind(
    monkeypatch, features, form, words
):
    info = types.SimpleNamespace(
        splits={"train": types.SimpleNamespace(file_instructions=["a file"])},
        features=dict.fromkeys(features),
        file_format=tfds.core.FileFormat[form],
    )
    builder = types.SimpleNamespace(info=info)
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: builder)
    with pytest.raises(UserError, match=words):
        sources.open_tfds("imdb", "train")


@pytest.mark.parametrize(
    "name, split",
    [
        ("labelled_pictures", "test"),
        ("labelled_picture", "train"),
        ("imagenet2012", "train"),
    ],
)
def test_what_tfds_does_not_have(tfds_folder, name, split):
    with pytest.raises(UserError, match="TFDS has no prepared") as caught:
        sources.open_tfds(name, split, tfds_folder)
    for word in (name, split, tfds_folder, f"tfds build {name}"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_check_yields_the_classes_of_each_file(shards, tfds_folder):
    classes = list(sources.check(sources.open_files(shards(2, 3))))
    assert [each.tolist() for each in classes] == [[0, 1], [2, 3, 4]]
    source = sources.open_tfds("labelled_pictures", "train", tfds_folder)
    assert sorted(np.concatenate([*sources.check(source)])) == [*range(9), 999]


def bad_records(record, jpeg):
    """Returns records that are no picture with a label, and what is said."""
    other = tf.train.Example(
        features=tf.train.Features(feature={"text": tf.train.Feature()})
    ).SerializeToString()
    png = tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)).numpy()
    no_jpeg = "the picture is no intact JPEG"
    no_example = "no example with a picture and a label"
    return {
        "half a JPEG": (record(jpeg[: len(jpeg) // 2], 1), no_jpeg),
        "no end": (record(jpeg[:-2], 1), no_jpeg),
        "a PNG": (record(png, 1), no_jpeg),
        "nothing": (record(b"", 1), no_jpeg),
        "text": (record(b"text", 1), no_jpeg),
        "no example": (b"\xff" * 30, no_example),
        "another example": (other, no_example),
        "class -1": (record(jpeg, 0), "the label is 0, not one of 1 to 1000"),
        "class 1000": (
            record(jpeg, 1001),
            "the label is 1001, not one of 1 to 1000",
        ),
    }


@pytest.mark.parametrize("case", bad_records(lambda *_: b"", b"jpeg"))
def test_a_bad_record_is_named(tmp_path, write, record, small_jpeg, case):
    bad, words = bad_records(record, small_jpeg)[case]
    good = record(small_jpeg, 1000)
    write(tmp_path / "a", [good] * 3)
    path = write(tmp_path / "b", [good, good, bad, good])
    source = sources.open_files(f"{tmp_path}/*")
    with pytest.raises(UserError) as caught:
        list(sources.check(source))
    message = str(caught.value)
    assert words in message and "\n" not in message
    assert f"in {path}, record 2 (the first is 0)" in message


def test_a_sample_is_decoded(tmp_path, write, record, small_jpeg):
    half = record(small_jpeg[: len(small_jpeg) // 2], 1)
    good = record(small_jpeg, 1)
    path = write(tmp_path / "shard", [good, half, good, half])
    source = sources.open_files(str(path))
    (classes,) = sources.check(source, decode_every=2)
    assert classes.tolist() == [0] * 4
    with pytest.raises(UserError, match="record 3"):
        list(sources.check(source, decode_every=3))


@pytest.mark.parametrize("what", ["JPEG", "label"])
def test_a_record_of_tfds_is_named_by_its_place_in_the_file(
    small_jpeg, prepare, tmp_path, what
):
    picture = small_jpeg[:-2] if what == "JPEG" else small_jpeg
    folder = prepare(tmp_path, picture, [7] * 9, files=1)
    source = sources.open_tfds("labelled_pictures", "train[6:]", folder)
    with pytest.raises(UserError, match=f"{what}.*00000-of-00001, record 6"):
        list(sources.check(source, classes=7))
