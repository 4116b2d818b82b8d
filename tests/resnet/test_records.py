"""Files found, shared out, read, and what is said of broken ones."""

import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_largebatch.errors import UserError
from tf_largebatch.resnet import records


@pytest.fixture(scope="module")
def tfds_folder(small_jpeg, prepare, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    return prepare(folder, small_jpeg, [0, 999, *range(1, 9)], files=3)


def labels_of(source, pieces):
    return [
        int(source.parse(serialized)[1]) for serialized in records.read(pieces)
    ]


def test_files_are_read_in_the_order_of_their_names(shards):
    source = records.open_files(shards(2, 3))
    paths = [Path(piece.path).name for piece in source.pieces]
    assert paths == ["train-00000-of-00002", "train-00001-of-00002"]
    assert sorted(labels_of(source, source.pieces)) == [1, 2, 3, 4, 5]


def test_patterns_are_a_list_or_separated_by_commas(shards):
    one, two = shards(1), shards(2)
    for path in (f"{one}, {two}", [one, two]):
        source = records.open_files(path)
        assert source.counts == [1, 2]


@pytest.mark.parametrize("hosts", [1, 2, 3, 4, 7, 20])
def test_spans_are_disjoint_complete_and_equal_within_one(shards, hosts):
    source = records.open_files(shards(4, 1, 6, 2))
    shares = [
        labels_of(source, source.span(host, hosts)) for host in range(hosts)
    ]
    assert sorted(sum(shares, [])) == list(range(1, 14))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_spans_of_a_part_of_a_split(tfds_folder, hosts):
    source = records.open_tfds("labelled_pictures", "train[2:9]", tfds_folder)
    shares = [
        labels_of(source, source.span(host, hosts)) for host in range(hosts)
    ]
    expected = labels_of(source, source.pieces)
    assert len(expected) == 7
    assert sorted(sum(shares, [])) == sorted(expected)


def test_a_span_reads_no_more_files_than_it_must(shards):
    source = records.open_files(shards(4, 4, 4, 4))
    pieces = source.span(1, 4)
    assert pieces == [records.Piece(source.pieces[1].path, 0, 4)]


def test_hosts_take_whole_files_where_there_are_enough(shards):
    source = records.open_files(shards(2, 2, 2, 2, 2))
    assert source.files_of(1, 2) == source.pieces[1::2]
    assert source.files_of(1, 5) == [source.pieces[1]]
    assert sum(piece.take for piece in source.files_of(1, 6)) in (1, 2)


def test_fewer_examples_than_hosts(shards):
    source = records.open_files(shards(2))
    with pytest.raises(UserError, match="2 examples are too few for 3 hosts"):
        for host in range(3):
            source.files_of(host, 3)


def test_the_seed_decides_the_order_of_files(shards):
    source = records.open_files(shards(*[1] * 30))

    def order(seed):
        pieces = records.read(source.pieces, cycle_length=1, seed=seed)
        return [int(source.parse(each)[1]) for each in pieces]

    assert order([1, 0]) == order([1, 0])
    assert order([1, 0]) != order([2, 0])
    assert order([1, 0]) != order([1, 1])
    assert sorted(order([1, 0])) == order(None) == list(range(1, 31))


@pytest.mark.parametrize(
    "cycle_length, first", [(1, [1, 2, 3]), (3, [1, 4, 7])]
)
def test_records_come_from_so_many_files_in_turn(shards, cycle_length, first):
    source = records.open_files(shards(3, 3, 3))
    read = records.read(source.pieces, cycle_length)
    labels = [int(source.parse(each)[1]) for each in read]
    assert labels[:3] == first


def test_jpegs_are_handed_on_as_they_are(shards, small_jpeg, tfds_folder):
    for source in (
        records.open_files(shards(1)),
        records.open_tfds("labelled_pictures", "train", tfds_folder),
    ):
        (serialized,) = records.read(source.pieces).take(1)
        assert source.parse(serialized)[0].numpy() == small_jpeg


def test_tfds_counts_without_reading(tfds_folder):
    source = records.open_tfds("labelled_pictures", "train", tfds_folder)
    assert len(source.pieces) == 3
    for piece in source.pieces:
        assert piece.take > 0
    assert sum(source.counts) == 10
    assert sorted(labels_of(source, source.pieces)) == [*range(9), 999]


@pytest.mark.parametrize("split, count", [("train[:40%]", 4), ("train[3:]", 7)])
def test_splits_of_tfds_may_be_cut(tfds_folder, split, count):
    source = records.open_tfds("labelled_pictures", split, tfds_folder)
    assert sum(source.counts) == count
    assert len(labels_of(source, source.pieces)) == count


def test_a_split_of_tfds_without_examples(tfds_folder):
    with pytest.raises(UserError, match=r"no examples in 'train\[:0\]'"):
        records.open_tfds("labelled_pictures", "train[:0]", tfds_folder)


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
        records.open_tfds("imdb", "train")


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
        records.open_tfds(name, split, tfds_folder)
    for word in (name, split, tfds_folder, f"tfds build {name}"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "pattern, words",
    [
        ("", "no file matches ''"),
        ("{folder}/valid-*", "no file matches '{folder}/valid-*'"),
        ("{folder}/a,{folder}/b", "no file matches '{folder}/b'"),
        ("{folder}", "{folder} is a folder"),
        ("{folder}/empty", "only 0 bytes, in {folder}/empty"),
        ("{folder}/five", "only 5 bytes, in {folder}/five"),
        ("{folder}/lin?", "cannot read {folder}/link: "),
        ("what://folder/*", "cannot read what://folder/*: "),
    ],
)
def test_patterns_that_lead_nowhere(tmp_path, write, pattern, words):
    write(tmp_path / "a", [b"something"])
    (tmp_path / "empty").touch()
    (tmp_path / "five").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError) as caught:
        records.open_files(pattern.format(folder=tmp_path))
    assert words.format(folder=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_check_yields_the_classes_of_each_file(shards, tfds_folder):
    classes = list(records.check(records.open_files(shards(2, 3))))
    assert [each.tolist() for each in classes] == [[0, 1], [2, 3, 4]]
    source = records.open_tfds("labelled_pictures", "train", tfds_folder)
    assert sorted(np.concatenate([*records.check(source)])) == [*range(9), 999]


def flip_a_bit(content):
    """Changes the data of record 3."""
    position = content.index(b"image/encoded", len(content) * 3 // 5)
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


DAMAGES = {
    "cut off": lambda content: (content[:-3], 4, "cut short"),
    "cut off in a header": lambda content: (
        content[: len(content) * 4 // 5 + 5],
        4,
        "cut short",
    ),
    "a bit": lambda content: (flip_a_bit(content), 3, "corrupt"),
    "a length": lambda content: (b"\x01" + content[1:], 0, "corrupt"),
    "no record at all": lambda content: (b"GIF89a" * 99, 0, "cut short"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_the_record(
    tmp_path, write, record, small_jpeg, damage
):
    path = write(tmp_path / "shard", [record(small_jpeg, 1)] * 5)
    content, number, words = DAMAGES[damage](path.read_bytes())
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(records.check(records.open_files(str(path))))
    message = str(caught.value)
    assert f"in {path}, record {number} (the first is 0)" in message
    assert words in message and "\n" not in message


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
    source = records.open_files(f"{tmp_path}/*")
    with pytest.raises(UserError) as caught:
        list(records.check(source))
    message = str(caught.value)
    assert words in message and "\n" not in message
    assert f"in {path}, record 2 (the first is 0)" in message


def test_a_sample_is_decoded(tmp_path, write, record, small_jpeg):
    half = record(small_jpeg[: len(small_jpeg) // 2], 1)
    good = record(small_jpeg, 1)
    path = write(tmp_path / "shard", [good, half, good, half])
    source = records.open_files(str(path))
    (classes,) = records.check(source, decode_every=2)
    assert classes.tolist() == [0] * 4
    with pytest.raises(UserError, match="record 3"):
        list(records.check(source, decode_every=3))


@pytest.mark.parametrize("what", ["JPEG", "label"])
def test_a_record_of_tfds_is_named_by_its_place_in_the_file(
    small_jpeg, prepare, tmp_path, what
):
    picture = small_jpeg[:-2] if what == "JPEG" else small_jpeg
    folder = prepare(tmp_path, picture, [7] * 9, files=1)
    source = records.open_tfds("labelled_pictures", "train[6:]", folder)
    with pytest.raises(UserError, match=f"{what}.*00000-of-00001, record 6"):
        list(records.check(source, classes=7))
