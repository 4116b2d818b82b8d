"""Data that is damaged in every way known: named, or left out and counted.

What is read is what training and evaluation read, of each experiment.
"""

import dataclasses
import pathlib
import runpy
import threading
import types

import numpy as np
import pytest
import tensorflow as tf
import yaml
from absl import logging

from tf_largebatch import experiments, frames, records, skipping
from tf_largebatch.bert import input as bert_input
from tf_largebatch.bert import pretraining, squad, squad_input
from tf_largebatch.cli.main import main
from tf_largebatch.errors import UserError
from tf_largebatch.resnet import input as resnet_input
from tf_largebatch.resnet import serving
from tf_largebatch.resnet import task as resnet

TESTS = pathlib.Path(__file__).parent
RANDOM = runpy.run_path(str(TESTS / "bert" / "random_examples.py"))
# Three files of six records, of which the fourth of the second is damaged.
FILES, EACH = 3, 6
FILE, RECORD = 1, 3
# More than there are records, of which each has a number of its own.
CLASSES = TOKENS = 300
LENGTH, PREDICTIONS = 6, 2
# Seconds. Nothing here takes as many; but where other tests left iterators
# behind, TensorFlow may wait for 60; see records.untuned.
LIMIT = 150
REST = [*range(RECORD, EACH)]
ALL = range(FILES * EACH)


def jpeg():
    """Returns a picture of 8 x 12 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3))
    return tf.io.encode_jpeg(pixels.astype(np.uint8)).numpy()


JPEG = jpeg()


def serialize(features):
    """Returns a record; the type of the values decides that of a feature."""
    kinds = {
        bytes: (tf.train.BytesList, "bytes_list"),
        int: (tf.train.Int64List, "int64_list"),
        float: (tf.train.FloatList, "float_list"),
    }
    made = {}
    for name, values in features.items():
        kind, field = kinds[type(values[0])]
        made[name] = tf.train.Feature(**{field: kind(value=values)})
    return tf.train.Example(
        features=tf.train.Features(feature=made)
    ).SerializeToString()


def picture(number, **changes):
    """Returns a record of ImageNet's form, whose label is its number."""
    return serialize(
        {"image/encoded": [JPEG], "image/class/label": [number + 1]}
        | {f"image/{name.replace('_', '/')}": x for name, x in changes.items()}
    )


def example(number, **changes):
    """Returns a record of pretraining; its number is its first token."""
    return serialize(
        {
            "input_ids": [number, *[1] * (LENGTH - 1)],
            "input_mask": [1] * LENGTH,
            "segment_ids": [0] * LENGTH,
            "masked_lm_positions": [1] * PREDICTIONS,
            "masked_lm_ids": [2] * PREDICTIONS,
            "masked_lm_weights": [1.0] * PREDICTIONS,
            "next_sentence_labels": [0],
            **changes,
        }
    )


def feature(number, **changes):
    """Returns a record of SQuAD; its number is its first token."""
    return serialize(
        {
            "input_ids": [number, *[1] * (LENGTH - 1)],
            "input_mask": [1] * LENGTH,
            "segment_ids": [0] * LENGTH,
            "start_positions": [1],
            "end_positions": [2],
            **changes,
        }
    )


@dataclasses.dataclass
class Experiment:
    """One whose data is damaged.

    Attributes:
        good: makes a record of its number.
        bad: records that are no example, or none that can be used, by what
            is wrong with them; what the message says of each.
        task: makes the task, of the settings of the data.
        numbers: returns the numbers of a batch's examples, as arrays.
        evaluates: whether it evaluates on records.
    """

    good: object
    bad: dict
    task: object
    numbers: object
    evaluates: bool = True


def resnet_task(**data):
    settings = {"image_size": 8, "num_classes": CLASSES, "dtype": "float32"}
    made = {
        name: resnet_input.DataConfig(**settings, **each)
        for name, each in data.items()
    }
    model = resnet.ModelConfig(num_classes=CLASSES, input_size=[8, 8, 3])
    for name in {"train_data", "validation_data"} - made.keys():
        made[name] = resnet_input.DataConfig(**settings)
    return resnet.ResNetTask(resnet.ResNetTaskConfig(model=model, **made))


def pretraining_task(**data):
    settings = {"seq_length": LENGTH, "max_predictions_per_seq": PREDICTIONS}
    config = pretraining.BertPretrainingConfig(
        **{n: bert_input.DataConfig(**settings, **x) for n, x in data.items()}
    )
    config.model.encoder.bert.vocab_size = TOKENS
    return pretraining.BertPretrainingTask(config)


def squad_task(train_data):
    data = squad_input.DataConfig(seq_length=LENGTH, **train_data)
    config = squad.BertSquadConfig(train_data=data)
    config.model.encoder.bert.vocab_size = TOKENS
    return squad.BertSquadTask(config)


def pictures_of(batch):
    labels, *weights = batch[1:]
    return labels[weights[0] == 1] if weights else labels


def tokens_of(batch):
    if isinstance(batch, tuple):
        return batch[0]["input_word_ids"][:, 0][batch[1] == 1]
    return batch["input_word_ids"][:, 0]


NO_JPEG = "the picture is no intact JPEG"
NO_PICTURE = "no example with a picture and a label"
NO_EXAMPLE = "the record is no example of 6 tokens and 2 predictions"
NO_FEATURE = "the record is no feature of 6 tokens with an answer's place"
EXPERIMENTS = {
    "resnet": Experiment(
        picture,
        {
            "half a JPEG": (picture(0, encoded=[JPEG[:300]]), NO_JPEG),
            "no end of a JPEG": (picture(0, encoded=[JPEG[:-2]]), NO_JPEG),
            "no JPEG": (picture(0, encoded=[b"text"]), NO_JPEG),
            "no picture": (picture(0, encoded=[b""]), NO_JPEG),
            "a picture of zeros": (picture(0, encoded=[bytes(99)]), NO_JPEG),
            "two pictures": (picture(0, encoded=[JPEG] * 2), NO_PICTURE),
            "no label": (serialize({"image/encoded": [JPEG]}), NO_PICTURE),
            "a label in words": (picture(0, class_label=[b"1"]), NO_PICTURE),
            "label 0": (picture(-1), "the label is 0, not one of 1 to 300"),
            "label 301": (
                picture(CLASSES),
                "the label is 301, not one of 1 to 300",
            ),
            "a label of 63 bits": (picture(2**62), "not one of 1 to 300"),
            "no example": (b"\xff" * 30, NO_PICTURE),
            "an example of text": (example(0), NO_PICTURE),
        },
        resnet_task,
        pictures_of,
    ),
    "pretraining": Experiment(
        example,
        {
            "a token too high": (
                example(TOKENS),
                "input_ids goes from 1 to 300, not from 0 to 299",
            ),
            "a token that is one modulo 2^32": (
                example(2**32 + 7),
                "input_ids goes from 1 to 4294967303",
            ),
            "a label below 0": (
                example(0, masked_lm_ids=[2, -1]),
                "masked_lm_ids goes from -1 to 2",
            ),
            "a place behind the end": (
                example(0, masked_lm_positions=[1, LENGTH]),
                "masked_lm_positions goes from 1 to 6",
            ),
            "a third sentence": (
                example(0, segment_ids=[2] * LENGTH),
                "segment_ids goes from 2 to 2",
            ),
            "a weight that is none": (
                example(0, masked_lm_weights=[1.0, float("nan")]),
                "masked_lm_weights has a value that is no number",
            ),
            "a next sentence of 2": (
                example(0, next_sentence_labels=[2]),
                "next_sentence_labels goes from 2 to 2",
            ),
            "too long": (example(0, input_ids=[1] * 9), NO_EXAMPLE),
            "weights that are integers": (
                example(0, masked_lm_weights=[1, 1]),
                NO_EXAMPLE,
            ),
            "no example": (b"\xff" * 30, NO_EXAMPLE),
            "a picture": (picture(0), NO_EXAMPLE),
        },
        pretraining_task,
        tokens_of,
    ),
    "squad": Experiment(
        feature,
        {
            "an answer behind the end": (
                feature(0, end_positions=[LENGTH]),
                "end_positions goes from 6 to 6, not from 0 to 5",
            ),
            "no answer": (example(0), NO_FEATURE),
            "no example": (b"\xff" * 30, NO_FEATURE),
        },
        squad_task,
        tokens_of,
        evaluates=False,
    ),
}


@dataclasses.dataclass
class Damage:
    """What happens to a file.

    Attributes:
        change: takes the file's bytes, where the record begins and where it
            ends; returns other bytes, or None for no file.
        words: what is said of it.
        number: the record that is named; None where the file alone is.
        lost: the numbers in the file of what cannot be read any more.
        count: for how many that counts.
    """

    change: object
    words: str = "the record is corrupt or cut short"
    number: int | None = RECORD
    lost: list = dataclasses.field(default_factory=lambda: [RECORD])
    count: int = 1


def flip(place, bit=0):
    """Returns what flips a bit, counted from where the record begins."""

    def change(content, start, end):
        changed = bytearray(content)
        changed[start + place if place >= 0 else end + place] ^= 1 << bit
        return bytes(changed)

    return change


def cut(place):
    """Returns what cuts a file, counted from where the record begins."""
    return lambda content, start, end: content[
        : start + place if place >= 0 else end + place
    ]


def overwrite(content, start, end):
    """Puts zeros where data was."""
    return content[: start + 20] + bytes(16) + content[start + 36 :]


NOTHING = {"number": None, "lost": [*range(EACH)]}
# Behind a broken length the file is lost; how much that is, is known from the
# lengths that follow, as long as its end is there.
LENGTH_LOST = {"lost": REST, "count": len(REST)}
DAMAGES = {
    "a bit of the data": Damage(flip(14)),
    "the last bit of the data": Damage(flip(-5, 7)),
    "the data's checksum": Damage(flip(-1)),
    "sixteen zeros": Damage(overwrite),
    "the length, a little": Damage(flip(0, 2), **LENGTH_LOST),
    "the length, far too much": Damage(flip(5), **LENGTH_LOST),
    "the length, negative": Damage(flip(7, 7), **LENGTH_LOST),
    "the length's checksum": Damage(flip(9), **LENGTH_LOST),
    "cut in the data": Damage(cut(20), lost=REST),
    "cut before the last byte": Damage(cut(-1), lost=REST),
    "cut behind the header": Damage(cut(12), lost=REST),
    "cut in the header": Damage(cut(9), lost=REST),
    "cut behind a byte of it": Damage(cut(1), lost=REST),
    "no TFRecord": Damage(
        lambda *_: b"GIF89a" * 99, number=0, lost=[*range(EACH)]
    ),
    "empty": Damage(lambda *_: b"", "holds no record, only 0 bytes", **NOTHING),
    "eleven bytes": Damage(
        lambda content, *_: content[:11], "only 11 bytes", **NOTHING
    ),
    "missing": Damage(lambda *_: None, "the file is missing", **NOTHING),
}


def write(folder, good, bad=None):
    """Writes the files of a split; returns the path of the damaged one."""
    return write_all(folder, good, [None, bad, None])[FILE]


def write_all(folder, good, bads):
    """Writes a file for each bad record, or for None; returns the paths."""
    folder.mkdir(parents=True)
    paths = []
    for file, bad in enumerate(bads):
        paths.append(folder / f"split-{file:05}-of-{len(bads):05}")
        with tf.io.TFRecordWriter(str(paths[-1])) as writer:
            for number in range(EACH):
                damaged = bad if number == RECORD else None
                writer.write(damaged or good(file * EACH + number))
    return paths


def spoil(path, change):
    """Damages the record of a file."""
    content = path.read_bytes()
    start = end = 0
    for _ in range(RECORD + 1):
        length = int.from_bytes(content[end : end + 8], "little")
        start, end = end, end + frames.HEADER + length + frames.FOOTER
    changed = change(content, start, end)
    path.unlink() if changed is None else path.write_bytes(changed)


def damages(experiment):
    """Returns all damages by name: the bad record, if it is one, and what."""
    return {
        name: (bad, Damage(lambda content, *_: content, words))
        for name, (bad, words) in experiment.bad.items()
    } | {name: (None, damage) for name, damage in DAMAGES.items()}


def in_turn(name):
    """Returns damages of an experiment, and whether each is in training.

    All bad records, by turns in training and in evaluation; of the damages of
    files a share, for what reads files is the same.
    """
    experiment, share = EXPERIMENTS[name], [*EXPERIMENTS].index(name)
    kinds = [*experiment.bad, *[*DAMAGES][share :: len(EXPERIMENTS)]]
    return [
        (kind, index % 2 == 0 or not experiment.evaluates)
        for index, kind in enumerate(kinds)
    ]


def in_both(name):
    """Returns all damages, each in training and, if there is, evaluation."""
    experiment = EXPERIMENTS[name]
    return [
        (kind, training)
        for kind in damages(experiment)
        for training in (True, False)
        if training or experiment.evaluates
    ]


def read(experiment, path, training, **changes):
    """Reads an epoch as training does, or as evaluation does.

    Returns:
        The numbers of the examples, and how many are left out.
    """
    data = {
        "input_path": str(path.parent / "split-*"),
        "is_training": training,
        "global_batch_size": 1,
        "seed": 3,
        **changes,
    }
    name = "train_data" if training else "validation_data"
    task = experiment.task(**{name: data})
    data = getattr(task.task_config, name)
    with task.naming_broken_records(data):
        source = task.open_data(data)
        batches = records.untuned(task.build_inputs(data))
        if training:
            batches = batches.take(sum(source.counts))
        found = [experiment.numbers(x) for x in batches.as_numpy_iterator()]
    return np.concatenate(found).tolist(), source.left_out


def within_limit(function, *args, **kwargs):
    """Returns what a function does, or fails if it takes too long."""
    found = {}

    def run():
        try:
            found["result"] = function(*args, **kwargs)
        except Exception as error:
            found["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive(), "it goes on for ever"
    if "error" in found:
        raise found["error"]
    return found["result"]


@pytest.fixture
def warnings(monkeypatch):
    """What was warned of."""
    messages = []
    monkeypatch.setattr(
        logging, "warning", lambda text, *args: messages.append(text % args)
    )
    return messages


@pytest.mark.parametrize(
    "cases", [in_turn, pytest.param(in_both, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_damage_is_refused_with_file_and_record(
    name, cases, tmp_path, record_property
):
    experiment = EXPERIMENTS[name]
    chosen = cases(name)
    for index, (kind, training) in enumerate(chosen):
        bad, damage = damages(experiment)[kind]
        path = write(tmp_path / str(index), experiment.good, bad)
        spoil(path, damage.change)
        with pytest.raises(UserError) as caught:
            numbers = within_limit(read, experiment, path, training)
            pytest.fail(f"{kind} was taken: {numbers}")
        message = str(caught.value)
        assert damage.words in message, (kind, message)
        assert str(path) in message and "\n" not in message, kind
        if damage.number is not None:
            record = f"{path}, record {damage.number} (the first is 0)"
            assert record in message, kind
    record_property("corruptions", [len(chosen)])


@pytest.mark.parametrize(
    "name, training",
    [
        ("resnet", False),
        ("pretraining", True),
        ("squad", True),
        pytest.param("resnet", True, marks=pytest.mark.slow),
        pytest.param("pretraining", False, marks=pytest.mark.slow),
    ],
)
def test_every_damage_can_be_left_out_and_is_counted(
    name, training, tmp_path, warnings, record_property
):
    """Each in a file of its own, between two that are whole."""
    experiment = EXPERIMENTS[name]
    kinds = damages(experiment)
    bads = [None, *(bad for bad, _ in kinds.values()), None]
    paths = write_all(tmp_path / "a", experiment.good, bads)
    left, count = {*range(len(paths) * EACH)}, 0
    for file, (_, damage) in enumerate(kinds.values(), 1):
        spoil(paths[file], damage.change)
        left -= {file * EACH + number for number in damage.lost}
        count += damage.count
    limit = {"max_corrupt_records": count}
    found = within_limit(read, experiment, paths[0], training, **limit)
    assert sorted(found[0]) == sorted(left)
    assert found[1] == count
    assert len(warnings) == len(kinds)
    for path, warning, kind in zip(paths[1:], warnings, kinds):
        damage = kinds[kind][1]
        number = damage.number or 0
        assert f"{path}, record {number} (the first is 0)" in warning, kind
        assert damage.words in warning, kind
        after = damage.count - 1
        assert (f"and the {after} after it" in warning) == (after > 0), kind
    record_property("corruptions", [len(kinds)])


def broken_pictures(folder, broken):
    """Writes files in which some records, by their numbers, are broken."""
    bad = EXPERIMENTS["resnet"].bad["half a JPEG"][0]
    return write(folder, lambda n: bad if n in broken else picture(n))


@pytest.mark.parametrize("training", [True, False])
def test_as_many_as_are_allowed_and_not_one_more(tmp_path, training):
    broken = {0, 5, 7, 8, 17}
    path = broken_pictures(tmp_path / "a", broken)
    experiment = EXPERIMENTS["resnet"]
    found, count = read(experiment, path, training, max_corrupt_records=5)
    assert sorted(found) == sorted({*ALL} - broken) and count == 5
    with pytest.raises(UserError) as caught:
        read(experiment, path, training, max_corrupt_records=4)
    first = f"{path.with_name('split-00000-of-00003')}, record 0 "
    assert "at least 5 records are broken" in str(caught.value)
    assert first in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("limit", [1, EACH - 1])
def test_a_file_of_broken_records_is_an_error(tmp_path, limit):
    path = broken_pictures(tmp_path / "a", {*range(EACH, 2 * EACH)})
    with pytest.raises(UserError, match=f"at least {limit + 1} .*record 0 "):
        within_limit(
            read, EXPERIMENTS["resnet"], path, True, max_corrupt_records=limit
        )


@pytest.mark.parametrize("training", [True, False])
def test_a_file_of_broken_records_can_be_left_out_whole(tmp_path, training):
    path = broken_pictures(tmp_path / "a", {*range(EACH, 2 * EACH)})
    found, count = within_limit(
        read, EXPERIMENTS["resnet"], path, training, max_corrupt_records=EACH
    )
    assert sorted(found) == [*range(6), *range(12, 18)] and count == EACH


def test_where_nothing_is_left_it_is_an_error(tmp_path):
    path = broken_pictures(tmp_path / "a", {*ALL})
    with pytest.raises(UserError, match="every record is broken"):
        within_limit(
            read, EXPERIMENTS["resnet"], path, True, max_corrupt_records=99
        )


def test_with_num_examples_it_is_known_how_many_are_lost(tmp_path):
    """Behind a cut they could not be counted otherwise."""
    path = write(tmp_path / "a", picture)
    spoil(path, cut(20))
    experiment, settings = EXPERIMENTS["resnet"], {"num_examples": len(ALL)}
    _, count = read(
        experiment, path, False, max_corrupt_records=len(REST), **settings
    )
    assert count == len(REST)
    with pytest.raises(UserError, match="at least 3 records are broken"):
        read(experiment, path, False, max_corrupt_records=2, **settings)


def test_num_examples_counts_what_is_left_out(tmp_path):
    path = broken_pictures(tmp_path / "a", {3})
    settings = {"max_corrupt_records": 2}
    experiment = EXPERIMENTS["resnet"]
    _, count = read(experiment, path, False, num_examples=18, **settings)
    assert count == 1
    with pytest.raises(UserError, match="17 examples and 1 broken ones, not"):
        read(experiment, path, False, num_examples=17, **settings)


def test_a_negative_number_is_a_mistake(tmp_path):
    path = write(tmp_path / "a", picture)
    with pytest.raises(UserError, match="max_corrupt_records is -1; give 0"):
        read(EXPERIMENTS["resnet"], path, True, max_corrupt_records=-1)


def test_broken_records_are_looked_for_once(tmp_path, warnings):
    path = broken_pictures(tmp_path / "a", {3, 4})
    experiment = EXPERIMENTS["resnet"]
    for _ in range(2):
        read(experiment, path, False, max_corrupt_records=2)
    assert len(warnings) == 2
    # But again where the files are others.
    spoil(path, cut(20))
    with pytest.raises(UserError, match="at least 3 records"):
        read(experiment, path, False, max_corrupt_records=2)


# ---------------------------------------------------------------------------
# The order of what is left.

BROKEN = {1, 8, 9, 14}
LEFT = sorted({*ALL} - BROKEN)


def look(number, record):
    """Returns what a record of text holds."""
    return number, tf.strings.to_number(record, tf.int32)


TEXT = records.Check(look, lambda _: None, lambda _: "no number")


@pytest.fixture
def texts(tmp_path):
    """Settings of files of numbers, of which some are none."""
    path = write(
        tmp_path / "texts",
        lambda n: b"broken" if n in BROKEN else str(n).encode(),
    )
    return records.DataConfig(
        input_path=f"{path.parent}/split-*",
        global_batch_size=6,
        seed=1,
        shuffle_buffer_size=4,
        max_corrupt_records=len(BROKEN),
    )


def steps_of(config, hosts=1, first=0, steps=6):
    """Returns what each step has, of all hosts, with numbers in the run."""
    source = skipping.whole_or_without(records.open_data(config), config, TEXT)
    found = []
    for host in range(hosts):
        where = tf.distribute.InputContext(hosts, host, hosts)
        size = config.global_batch_size
        examples = records.training_examples(
            source, config, where, first * size, look
        ).batch(size // hosts)
        found.append([*examples.take(steps).as_numpy_iterator()])
    return [
        sorted(
            (int(number[1]), int(value))
            for step in each
            for number, value in zip(*step)
        )
        for each in zip(*found)
    ]


def test_an_epoch_has_as_many_steps_as_good_records(texts):
    steps = steps_of(texts, steps=7)
    values = [value for step in steps for _, value in step]
    count = len(LEFT)
    for epoch in range(len(values) // count):
        part = values[epoch * count : (epoch + 1) * count]
        assert sorted(part) == LEFT


def test_a_run_that_goes_on_sees_what_it_would_have_seen(texts):
    whole = steps_of(texts, steps=8)
    for first in (1, 2, 3, 5):
        assert steps_of(texts, first=first, steps=8 - first) == whole[first:]


@pytest.mark.parametrize("streams, first", [(3, 0), (6, 2)])
def test_any_number_of_hosts_sees_the_same(texts, streams, first):
    """Of whole files, and of shares of them."""
    config = texts.replace(streams=streams)
    one = steps_of(config)
    assert steps_of(config, 3, first, steps=6 - first) == one[first:]


def test_evaluation_has_each_good_record_once_on_any_number_of_hosts(texts):
    source = skipping.whole_or_without(records.open_data(texts), texts, TEXT)
    for hosts in (1, 2, 4, 9):
        found = []
        for host in range(hosts):
            batches = records.evaluation_batches(
                source,
                texts,
                tf.distribute.InputContext(hosts, host, hosts),
                2,
                hosts,
                lambda record: (look(0, record)[1],),
            )
            for values, weights in batches.as_numpy_iterator():
                found += values[weights == 1].tolist()
        assert sorted(found) == LEFT


@pytest.mark.parametrize("count", [0, 4])
def test_a_file_with_fewer_records_than_are_known_is_named(tmp_path, count):
    """As TFDS knows how many there must be."""
    path = write(tmp_path / "a", lambda n: str(10 + n).encode())
    path.write_bytes(path.read_bytes()[: count * (16 + 2)])
    source = records.Source([records.Piece(str(path), 0, EACH)])
    config = records.DataConfig(seed=1, global_batch_size=1)

    def train():
        with records.naming_broken_records(
            "record", lambda: records.check(source, TEXT)
        ):
            data = records.training_examples(source, config, None, 0, look)
            return [*data.take(20)]

    words = f"the file ends before the record, in {path}, record {count} "
    with pytest.raises(UserError) as caught:
        within_limit(train)
    assert words in str(caught.value)
    config.max_corrupt_records = EACH
    if not count:
        with pytest.raises(UserError, match="every record is broken"):
            skipping.whole_or_without(source, config, TEXT)
        return
    rest = skipping.whole_or_without(source, config, TEXT)
    assert rest.left_out == EACH - count and rest.counts == [count]


@pytest.mark.parametrize("take", [records.ALL, 1])
def test_of_a_piece_behind_the_damage_nothing_is_left(tmp_path, take):
    """And no more is lost than the piece had."""
    path = write(tmp_path / "a", lambda n: str(n).encode())
    spoil(path, flip(9))
    piece = records.Piece(str(path), RECORD + 2, take)
    left, (broken,) = skipping.examine_all([piece], TEXT, EACH)
    assert left == []
    assert (broken.number, broken.count) == (RECORD + 2, EACH - RECORD - 2)


# ---------------------------------------------------------------------------
# Through the command.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Arguments that train a tiny BERT; a split of each kind to damage."""
    folder = RANDOM["write"](tmp_path_factory.mktemp("examples"))
    settings = RANDOM["small"](folder)
    settings["trainer"]["train_steps"] = 2
    settings["trainer"]["validation_interval"] = 2
    (folder / "small.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["train", "--experiment=largebatch/bert_pretraining"]
    return folder, [*arguments, f"--config_file={folder / 'small.yaml'}"]


def test_the_command_names_a_record_or_leaves_it_out(run, capsys):
    folder, arguments = run
    paths = [folder / f"{x}-00001-of-00002" for x in ("train", "validation")]
    for path in paths:
        spoil(path, flip(20))
    refused = [*arguments, f"--model_dir={folder}/refused"]
    assert main(refused) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("tf-largebatch: error: the record is corrupt")
    assert f"{paths[0]}, record {RECORD} (the first is 0)" in last

    arguments = [*arguments, f"--model_dir={folder}/run"]
    assert main([*arguments, "--max_corrupt_records=1"]) == 0
    printed = capsys.readouterr()
    assert "broken training records left out 1, " in printed.out
    assert "broken evaluation records left out 1" in printed.out
    assert ", examples 9," in printed.out


@pytest.mark.parametrize("number", ["-1", "some"])
def test_a_number_that_is_none(run, capsys, number):
    flag = f"--max_corrupt_records={number}"
    assert main([*run[1], flag, "--model_dir=unused"]) == 2
    assert "max_corrupt_records" in capsys.readouterr().err.splitlines()[-1]


def test_an_export_is_evaluated_without_what_is_broken(tmp_path):
    path = broken_pictures(tmp_path / "a", {3, 11})
    task = resnet_task(
        validation_data={
            "input_path": f"{path.parent}/split-*",
            "num_examples": len(ALL),
            "max_corrupt_records": 2,
        }
    )

    def classify(image_bytes):
        return {"logits": tf.zeros((len(image_bytes), CLASSES))}

    exported = types.SimpleNamespace(signatures={serving.DEFAULT: classify})
    figures = task.evaluate_export(exported)
    assert figures["examples"] == 16
    assert figures["validation_data_left_out"] == 2


def test_data_in_which_nothing_may_be_left_out_has_no_figure(tmp_path):
    path = write(tmp_path / "a", picture)
    task = resnet_task(train_data={"input_path": f"{path.parent}/split-*"})
    config = task.task_config
    assert not experiments.left_out(task, train_data=config.train_data)
