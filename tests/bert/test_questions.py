"""SQuAD's questions for training, cut into TFRecord files."""

import json

import pytest
import tensorflow as tf

from tf_largebatch.bert import demo, questions, vocabulary


@pytest.fixture(scope="module")
def vocab_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    counts = vocabulary.count_words(demo.TRAIN, do_lower_case=True)
    tokens = vocabulary.learn(counts, 800)
    path.write_text("\n".join([*tokens, ""]))
    return str(path)


def read(path):
    return [
        {
            name: list(feature.int64_list.value)
            for name, feature in tf.train.Example.FromString(
                record.numpy()
            ).features.feature.items()
        }
        for record in tf.data.TFRecordDataset(path)
    ]


def test_records_hold_what_features_hold(vocab_file, tmp_path):
    lengths = (64, 16, 20)
    out = str(tmp_path / "squad")
    job = questions.Job(demo.TRAIN, out, vocab_file, True, *lengths)
    count = questions.write(job)
    features = questions.cut(
        questions.examples(demo.TRAIN, training=True),
        vocabulary.tokenizer(vocab_file, True),
        *lengths,
        training=True,
    )
    written = read(out)
    assert len(written) == count == len(features) > 60
    for record, feature in zip(written, features):
        assert record["input_ids"] == feature.input_ids
        assert record["input_mask"] == feature.input_mask
        assert record["segment_ids"] == feature.segment_ids
        assert record["start_positions"] == [feature.start_position]
        assert record["end_positions"] == [feature.end_position]


@pytest.mark.parametrize(
    "most, counts", [(4, [6, 6, 6, 6, 6]), (3, [3] * 10), (99, [30])]
)
def test_articles_are_shared_out_by_their_questions(monkeypatch, most, counts):
    monkeypatch.setattr(questions, "QUESTIONS_A_FILE", most)
    articles = questions.read(demo.TRAIN)
    parts = list(questions.parts(articles))
    assert sum(parts, []) == articles
    assert counts == [
        sum(1 for _ in questions.questions_of("", part)) for part in parts
    ]


def test_articles_without_questions_make_no_file():
    empty = {"title": "x", "paragraphs": [{"context": "y", "qas": []}]}
    assert list(questions.parts([empty])) == []


def test_a_part_is_a_file_by_itself(vocab_file, tmp_path):
    articles = questions.read(demo.TRAIN)[2:4]
    path = tmp_path / "part.json"
    path.write_text(json.dumps({"data": articles}))
    out = str(tmp_path / "squad")
    job = questions.Job(str(path), out, vocab_file, True, 128, 64, 64)
    assert questions.write(job) == len(read(out)) == 6
