"""Files found, shared out, read, and what is said of broken ones."""

import types
from pathlib import Path

import pytest
import tensorflow as tf

from tf_largebatch import records
from tf_largebatch.errors import UserError


@pytest.fixture
def shards(tmp_path):
    """A function that returns a pattern of files of so many records each.

    A record is its number, from 1.
    """

    def make(*counts):
        folder = tmp_path / str(len([*tmp_path.iterdir()]))
        folder.mkdir()
        numbers = iter(range(1, sum(counts) + 1))
        for file, count in enumerate(counts):
            name = f"train-{file:05}-of-{len(counts):05}"
            write(folder / name, [next(numbers) for _ in range(count)])
        return f"{folder}/train-*"

    return make


def write(path, numbers):
    with tf.io.TFRecordWriter(str(path)) as file:
        for number in numbers:
            file.write(f"number {number}".encode())
    return path


def look(number, record):
    """Fails at a record that holds no number."""
    words = tf.strings.split(record)
    return number, tf.strings.to_number(words[1], tf.int32)


ANYTHING = records.Check(look, lambda _: None, lambda error: str(error))


def numbers_of(pieces, **arguments):
    return [
        int(record.numpy().decode().split()[1])
        for record in records.read(pieces, **arguments)
    ]


def test_files_are_read_in_the_order_of_their_names(shards):
    source = records.open_files(shards(2, 3))
    paths = [Path(piece.path).name for piece in source.pieces]
    assert paths == ["train-00000-of-00002", "train-00001-of-00002"]
    assert numbers_of(source.pieces, cycle_length=1) == [1, 2, 3, 4, 5]


def test_patterns_are_a_list_or_separated_by_commas(shards):
    one, two = shards(1), shards(2)
    for path in (f"{one}, {two}", [one, two]):
        source = records.open_files(path)
        assert source.counts == [1, 2]


@pytest.mark.parametrize("hosts", [1, 3, 14])
def test_spans_are_disjoint_complete_and_equal_within_one(shards, hosts):
    source = records.open_files(shards(4, 1, 6, 2))
    shares = [numbers_of(source.span(host, hosts)) for host in range(hosts)]
    assert sorted(sum(shares, [])) == list(range(1, 14))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


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


def steps_of(pattern, hosts, streams, first=0, steps=5, batch=12):
    """Returns what each step has: the groups of three of each host."""
    config = records.DataConfig(
        global_batch_size=batch, streams=streams, seed=1, shuffle_buffer_size=4
    )
    source = records.open_files(pattern)
    taken = []
    for host in range(hosts):
        context = tf.distribute.InputContext(hosts, host, hosts)
        examples = records.training_examples(
            source, config, context, first * batch, look
        ).batch(batch // hosts)
        share = [
            [(int(number[1]), int(record)) for number, record in zip(*step)]
            for step in examples.take(steps).as_numpy_iterator()
        ]
        taken.append(share)
    return [
        {
            tuple(share[step][start : start + 3])
            for share in taken
            for start in range(0, batch // hosts, 3)
        }
        for step in range(steps)
    ]


@pytest.mark.parametrize(
    "counts, hosts, resumed", [((7, 5, 8, 4), 4, 2), ((20, 4), 2, 4)]
)
def test_steps_are_the_same_on_as_many_hosts_as_divide_the_streams(
    shards, counts, hosts, resumed
):
    """Of files, or of spans where there are fewer files than streams."""
    pattern = shards(*counts)
    one = steps_of(pattern, 1, 4)
    assert all(len(step) == 4 for step in one)
    assert steps_of(pattern, hosts, 4) == one
    # The steps that went before are those that are left out.
    assert steps_of(pattern, resumed, 4, first=2, steps=3) == one[2:]


def test_without_streams_each_host_is_one(shards):
    pattern = shards(7, 5, 8, 4)
    assert steps_of(pattern, 2, 0) == steps_of(pattern, 2, 2)
    assert steps_of(pattern, 2, 0) != steps_of(pattern, 1, 0)


def test_an_epoch_of_streams_has_every_example_once(shards):
    pattern = shards(6, 6, 6, 6)
    steps = steps_of(pattern, 1, 4, steps=2)
    seen = [record for step in steps for group in step for _, record in group]
    assert sorted(seen) == list(range(1, 25))
    numbers = [n for step in steps for group in step for n, _ in group]
    assert sorted(numbers) == list(range(24))


@pytest.mark.parametrize(
    "streams, words",
    [
        (-2, "streams is -2; give a multiple of the 2 hosts"),
        (3, "streams is 3; give a multiple of the 2 hosts"),
        (8, "global_batch_size is 12 and streams 8; make the one a multiple"),
    ],
)
def test_streams_that_do_not_divide(shards, streams, words):
    with pytest.raises(UserError, match=words):
        steps_of(shards(9, 9), 2, streams)


def test_the_seed_decides_the_order_of_files(shards):
    source = records.open_files(shards(*[1] * 30))

    def order(seed):
        return numbers_of(source.pieces, cycle_length=1, seed=seed)

    assert order([1, 0]) == order([1, 0])
    assert order([1, 0]) != order([2, 0])
    assert order([1, 0]) != order([1, 1])
    assert sorted(order([1, 0])) == order(None) == list(range(1, 31))


@pytest.mark.parametrize(
    "cycle_length, first", [(1, [1, 2, 3]), (3, [1, 4, 7])]
)
def test_records_come_from_so_many_files_in_turn(shards, cycle_length, first):
    source = records.open_files(shards(3, 3, 3))
    numbers = numbers_of(source.pieces, cycle_length=cycle_length)
    assert numbers[:3] == first


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
def test_patterns_that_lead_nowhere(tmp_path, pattern, words):
    write(tmp_path / "a", [1])
    (tmp_path / "empty").touch()
    (tmp_path / "five").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError) as caught:
        records.open_files(pattern.format(folder=tmp_path))
    assert words.format(folder=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def flip_a_bit(content):
    """Changes the data of record 3."""
    position = content.index(b"number 4")
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
def test_a_damaged_file_is_named_with_the_record(tmp_path, damage):
    path = write(tmp_path / "shard", range(1, 6))
    content, number, words = DAMAGES[damage](path.read_bytes())
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(records.check(records.open_files(str(path)), ANYTHING))
    message = str(caught.value)
    assert f"in {path}, record {number} (the first is 0)" in message
    assert words in message and "\n" not in message


@pytest.mark.parametrize(
    "problem, words",
    [
        (lambda found: f"{found[1]} is odd" if found[1] == 5 else None, "5 is"),
        (lambda found: "bad" if found[0] == 2 else None, "bad"),
    ],
)
def test_a_record_with_a_problem_is_named(tmp_path, problem, words):
    path = write(tmp_path / "shard", [1, 3, 5, 7])
    how = records.Check(look, problem, str)
    with pytest.raises(UserError, match=f"{words}.*shard, record 2 "):
        list(records.check(records.open_files(str(path)), how))
    part = records.Source([records.Piece(str(path), skip=1, take=2)])
    if words == "5 is":
        with pytest.raises(UserError, match="shard, record 2 "):
            list(records.check(part, how))


def test_a_record_that_cannot_be_looked_at_has_a_reason(tmp_path):
    path = write(tmp_path / "shard", [1, 2, "x", 4])
    how = records.Check(look, lambda _: None, lambda _: "it is no number")
    with pytest.raises(UserError, match="it is no number, in .*, record 2 "):
        list(records.check(records.open_files(str(path)), how))


def test_check_yields_what_is_found_in_each_file(shards):
    found = list(records.check(records.open_files(shards(2, 1)), ANYTHING))
    assert found == [[(0, 1), (1, 2)], [(0, 3)]]


@pytest.mark.parametrize("name", ["seq_length", "cycle_length"])
def test_numbers_that_are_too_small(name):
    config = types.SimpleNamespace(
        seq_length=1, cycle_length=1, shuffle_buffer_size=1
    )
    records.validate(config, "seq_length")
    setattr(config, name, 0)
    with pytest.raises(UserError, match=f"{name} is 0; give 1 or more"):
        records.validate(config, "seq_length")
