"""The small set of real pictures."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch import records
from tf_largebatch.errors import UserError
from tf_largebatch.resnet import pictures, sources

SMALL = {"train": (48, 3), "validation": (16, 2)}
KEYS = {
    "image/encoded": tf.io.FixedLenFeature((), tf.string),
    "image/height": tf.io.FixedLenFeature((), tf.int64),
    "image/width": tf.io.FixedLenFeature((), tf.int64),
    "image/filename": tf.io.FixedLenFeature((), tf.string),
    "image/class/label": tf.io.FixedLenFeature((), tf.int64),
    "image/class/text": tf.io.FixedLenFeature((), tf.string),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A set with fewer pictures."""
    folder = tmp_path_factory.mktemp("pictures") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "SPLITS", SMALL)
        assert pictures.build(folder) == {"train": 48, "validation": 16}
    return folder


@pytest.fixture(scope="module")
def examples(folder):
    """All records, by split."""
    found = {}
    for split in SMALL:
        source = sources.open_files(f"{folder}/{split}-*")
        found[split] = [
            tf.io.parse_single_example(serialized, KEYS)
            for serialized in records.read(source.pieces)
        ]
    return found


def box(example):
    """Returns top, left, height and width in the photograph."""
    name = example["image/filename"].numpy().decode()
    top, left = name.removesuffix(".jpg").split("-")[-2:]
    size = (int(example[f"image/{key}"]) for key in ("height", "width"))
    return int(top), int(left), *size


def test_there_are_enough_pictures_and_labels():
    assert pictures.SPLITS["train"][0] >= 1024
    assert pictures.SPLITS["validation"][0] >= 256
    assert len(pictures.PHOTOGRAPHS) >= 4


def test_files_are_named_as_imagenets(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"train-{number:05}-of-00003" for number in range(3)),
        *(f"validation-{number:05}-of-00002" for number in range(2)),
    ]


@pytest.mark.parametrize("split, of_each", [("train", 3), ("validation", 1)])
def test_every_photograph_gives_as_many_pictures(examples, split, of_each):
    labels = [int(each["image/class/label"]) for each in examples[split]]
    assert sorted(labels) == sorted([*range(1, 17)] * of_each)
    assert labels != sorted(labels)


def test_each_file_has_several_labels_mixed(folder):
    for path in folder.iterdir():
        (classes,) = sources.check(sources.open_files(str(path)))
        assert len(set(classes)) >= 4
        assert classes.tolist() != sorted(classes)


def test_pictures_are_what_the_photograph_shows_there(examples):
    for each in examples["train"] + examples["validation"]:
        label = int(each["image/class/label"])
        photograph = pictures.load(pictures.PHOTOGRAPHS[label - 1])
        top, left, height, width = box(each)
        there = photograph[top : top + height, left : left + width]
        picture = tf.io.decode_jpeg(each["image/encoded"]).numpy()
        assert picture.shape == there.shape
        error = abs(picture.astype(float) - there).mean()
        assert error < 0.2 * there.std()
        stem = pictures.PHOTOGRAPHS[label - 1].rpartition("/")[2]
        assert stem.startswith(each["image/class/text"].numpy().decode())


def test_no_training_picture_touches_an_evaluation_picture(examples):
    shown = {}
    for split, found in examples.items():
        for each in found:
            label = int(each["image/class/label"])
            shape = pictures.load(pictures.PHOTOGRAPHS[label - 1]).shape[:2]
            top, left, height, width = box(each)
            pixels = shown.setdefault((label, split), np.zeros(shape, bool))
            pixels[top : top + height, left : left + width] = True
    for label in range(1, 17):
        train, evaluation = (shown[label, split] for split in SMALL)
        assert train.any() and evaluation.any()
        assert not (train & evaluation).any()


def test_regions_fill_the_photograph_and_do_not_meet():
    for shape in ((300, 451, 3), (427, 640, 3), (5, 4, 1)):
        pixels = np.zeros(shape[:2], int)
        for split in pictures.SPLITS:
            top, left, height, width = pictures.region(split, shape)
            pixels[top : top + height, left : left + width] += 1
        assert (pixels == 1).all()


def test_boxes_stay_inside_and_vary():
    random = np.random.default_rng(0)
    region = (0, 200, 150, 100)
    boxes = np.array([pictures.draw(region, random) for _ in range(500)])
    top, left, height, width = boxes.T
    assert top.min() == 0 and (top + height).max() == 150
    assert left.min() == 200 and (left + width).max() == 300
    area = height * width / (150 * 100)
    assert area.min() < 0.3 and area.max() > 0.85
    aspect = width / height
    # Where a box would be too wide, it is cut.
    assert 0.6 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.35


def test_jpegs_vary_in_size_and_colour(examples):
    shapes = {
        tuple(tf.io.extract_jpeg_shape(each["image/encoded"]).numpy())
        for each in examples["train"]
    }
    assert len(shapes) > 30
    assert {shape[2] for shape in shapes} == {1, 3}


def test_the_set_is_always_the_same(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "SPLITS", SMALL)
    pictures.build(tmp_path / "again")
    pictures.build(tmp_path / "other", seed=1)
    for path in folder.iterdir():
        again = (tmp_path / "again" / path.name).read_bytes()
        assert again == path.read_bytes()
        assert again != (tmp_path / "other" / path.name).read_bytes()


def test_an_empty_folder_may_be_there_already(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "SPLITS", {"train": (16, 1)})
    pictures.build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [
        "train-00000-of-00001"
    ]


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "thesis.txt").write_text("all my work")
    for folder in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(UserError) as caught:
            pictures.build(folder)
        assert str(folder) in str(caught.value)
    assert (tmp_path / "thesis.txt").read_text() == "all my work"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError])
def test_what_is_stopped_leaves_nothing_behind(tmp_path, monkeypatch, error):
    def stop(*_):
        raise error(28, "No space left on device")

    monkeypatch.setattr(pictures, "example", stop)
    expected = UserError if error is OSError else error
    with pytest.raises(expected) as caught:
        pictures.build(tmp_path / "set")
    assert not list(tmp_path.iterdir())
    if expected is UserError:
        words = f"cannot write to {tmp_path}/set: No space left on device"
        assert words in str(caught.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        pictures.load("skimage/data/coffee.png")
    assert caught.value.name == "skimage"
