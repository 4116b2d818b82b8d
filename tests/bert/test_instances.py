"""Examples for pretraining, written file by file."""

import dataclasses
import importlib
import sys

import pytest
import tensorflow as tf
from absl import flags

from tf_largebatch.bert import instances, vocabulary

MODULE = "official.nlp.data.create_pretraining_data"
LINES = [f"the {n} of it is here ." for n in ("one", "two", "tree", "four")]


@pytest.fixture
def job(tmp_path):
    tokens = sorted({word for line in LINES for word in line.split()})
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join([*vocabulary.REQUIRED, *tokens, ""]))
    text = tmp_path / "text.txt"
    text.write_text("\n".join([*LINES, "", *reversed(LINES), ""]))
    return instances.Job(
        text=str(text),
        out=str(tmp_path / "out"),
        vocab_file=str(vocab),
        do_lower_case=True,
        seq_length=32,
        max_predictions=4,
        masked_lm_prob=0.15,
        dupe_factor=10,
        short_seq_prob=0.0,
        seed="a",
    )


def examples(job, **changes):
    """Returns what is written, by the names of features."""
    job = dataclasses.replace(job, **changes)
    count = instances.write(job)
    found = [
        {
            name: list(feature.int64_list.value or feature.float_list.value)
            for name, feature in tf.train.Example.FromString(
                record.numpy()
            ).features.feature.items()
        }
        for record in tf.data.TFRecordDataset(job.out)
    ]
    assert len(found) == count
    return found


def test_the_seed_decides(job):
    assert examples(job) == examples(job)
    assert examples(job) != examples(job, seed="b")


@pytest.mark.parametrize("dupe_factor", [1, 7])
def test_the_text_is_gone_through_so_often(job, dupe_factor):
    with open(job.text, "w") as file:
        file.write("\n\n".join(LINES))
    # A document of one sentence is one example.
    found = examples(job, dupe_factor=dupe_factor)
    assert len(found) == len(LINES) * dupe_factor


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
def test_so_many_are_predicted(job, share):
    found = examples(job, masked_lm_prob=share, max_predictions=12)
    for example in found:
        wanted = max(1, round(share * sum(example["input_mask"])))
        assert sum(example["masked_lm_weights"]) == min(wanted, 12)


def test_examples_are_short_on_purpose(job):
    def tokens(share):
        found = examples(job, short_seq_prob=share, dupe_factor=50)
        lengths = [sum(example["input_mask"]) for example in found]
        return sum(lengths) / len(lengths)

    assert tokens(0.9) < 0.8 * tokens(0.0)


def test_capitals_are_unknown_where_the_vocabulary_has_none(job):
    with open(job.text, "a") as file:
        file.write("\nThe ONE of it .\nThe Two of it .\n")

    def has_unknown(do_lower_case):
        found = examples(job, do_lower_case=do_lower_case)
        return any(1 in example["input_ids"] for example in found)

    assert has_unknown(False) and not has_unknown(True)


def test_the_model_gardens_flags_do_not_stay(job, monkeypatch):
    before = set(flags.FLAGS)

    def forget():
        monkeypatch.delitem(sys.modules, MODULE, raising=False)
        monkeypatch.delattr(MODULE, raising=False)

    forget()
    instances.write(job)
    assert set(flags.FLAGS) == before
    # So that it, or another program with such flags, can be imported.
    forget()
    importlib.import_module(MODULE)
    assert "dupe_factor" in set(flags.FLAGS) - before
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
