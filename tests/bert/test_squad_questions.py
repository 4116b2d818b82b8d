"""SQuAD files and vocabularies that are wrong: one line that says where."""

import json
import pathlib
import runpy

import pytest
from official.nlp.tools import tokenization

from tf_largebatch.bert import questions, vocabulary
from tf_largebatch.errors import UserError

WRITTEN = runpy.run_path(
    str(pathlib.Path(__file__).with_name("written_questions.py"))
)


@pytest.fixture
def folder(tmp_path):
    return WRITTEN["write"](tmp_path)


def one_line(call, *arguments):
    """Returns the error that a call ends in."""
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_right_is_returned_as_it_is(folder):
    assert (
        questions.read(str(folder / "dev.json")) == WRITTEN["squad"]()["data"]
    )
    training = questions.read(str(folder / "train.json"), training=True)
    assert training == WRITTEN["squad"](one_answer=True)["data"]


def test_features_for_training_have_the_answers_place(folder):
    examples = questions.examples(str(folder / "train.json"), training=True)
    tokenizer = vocabulary.tokenizer(str(folder / "vocab.txt"), True)
    features = questions.cut(examples, tokenizer, 64, 16, 10, training=True)
    assert len(features) == 9
    for feature, example in zip(features, examples):
        found = feature.tokens[
            feature.start_position : feature.end_position + 1
        ]
        assert found == tokenizer.tokenize(example.orig_answer_text)
        assert feature.input_ids[0] == WRITTEN["vocabulary"]().index("[CLS]")


def change(part, value):
    """Returns what changes a part of question q2, or of its answer."""

    def apply(content):
        question = content["data"][0]["paragraphs"][0]["qas"][2]
        of_answer = part in ("text", "answer_start")
        target = question["answers"][0] if of_answer else question
        if value is None:
            del target[part]
        else:
            target[part] = value

    return apply


def write(folder, apply):
    """Writes the questions, changed, with an answer each."""
    content = WRITTEN["squad"](one_answer=True)
    apply(content)
    (folder / "wrong.json").write_text(json.dumps(content))
    return str(folder / "wrong.json")


@pytest.mark.parametrize(
    "apply, words",
    [
        (change("is_impossible", True), "as in SQuAD v2 (is_impossible)"),
        (change("answers", []), "the question has no answer"),
        (change("answers", None), "the question has no answer"),
        (change("answers", [3]), "an answer is not of SQuAD's form"),
        (change("text", None), "an answer is not of SQuAD's form"),
        (change("text", "the last program"), "'the last program' does not"),
        (change("text", "  "), "'  ' does not stand at"),
        (change("answer_start", "19"), "an answer is not of SQuAD's form"),
        (change("answer_start", 18), "does not stand at 18 of its paragraph"),
        (change("answer_start", -118), "does not stand at -118"),
        (change("answer_start", 10**6), "does not stand at 1000000"),
    ],
)
def test_a_wrong_question_is_named(folder, apply, words):
    path = write(folder, apply)
    for training in (False, True):
        error = one_line(questions.read, path, training)
        assert words in error
        assert f"in {path}, question q2; give SQuAD v1.1" in error


@pytest.mark.parametrize(
    "apply, words",
    [
        (change("question", None), "KeyError('question')"),
        (change("question", 5), "a text is no string"),
        (change("id", None), "KeyError('id')"),
        (lambda content: content["data"].append(7), "TypeError"),
    ],
)
def test_where_the_form_is_wrong_is_said(folder, apply, words):
    path = write(folder, apply)
    last = "q8" if words == "TypeError" else "q1"
    error = one_line(questions.read, path)
    assert "the JSON is not of SQuAD's form" in error
    assert words in error
    assert f"in {path}, after question {last};" in error


def test_a_question_must_not_be_there_twice(folder):
    path = write(folder, change("id", "q0"))
    words = f"the question is there twice, in {path}, question q0;"
    assert words in one_line(questions.read, path)


def test_one_answer_for_training(folder):
    path = str(folder / "dev.json")
    words = f"has 2 answers, not 1 for training, in {path}, question q1;"
    assert words in one_line(questions.read, path, True)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"{", "the file is no JSON (Expecting property name"),
        (b"[" * 10**5, "the file is no JSON"),
        (b"[]", "the JSON has no list `data`"),
        (b'{"data": {}}', "the JSON has no list `data`"),
        (b'{"data": []}', "there is no question"),
        ('{"data": "é"}'.encode("latin-1"), "the text is not UTF-8 at byte 10"),
    ],
)
def test_what_is_no_squad_file_is_said(tmp_path, content, words):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    error = one_line(questions.read, str(path))
    assert words in error
    assert f"in {path};" in error


@pytest.mark.parametrize("read", [questions.read, vocabulary.read])
def test_what_is_not_there(read, tmp_path):
    assert f"cannot read {tmp_path}/x" in one_line(read, f"{tmp_path}/x")


@pytest.mark.parametrize(
    "lengths, words",
    [
        ((13, 8, 10), "seq_length is 13 and query_length 10"),
        ((32, 0, 10), "doc_stride is 0"),
        ((32, 8, 0), "query_length 0"),
    ],
)
def test_lengths_that_leave_no_room(folder, lengths, words):
    examples = questions.examples(str(folder / "dev.json"), training=False)
    tokenizer = vocabulary.tokenizer(str(folder / "vocab.txt"), True)
    arguments = (examples, tokenizer, *lengths, False)
    assert words in one_line(questions.cut, *arguments)


def test_the_vocabulary_has_an_id_a_line(folder):
    path = str(folder / "vocab.txt")
    assert vocabulary.read(path) == WRITTEN["vocabulary"]()
    ids = tokenization.load_vocab(path)
    assert [*ids] == vocabulary.read(path)
    vocabulary.check_size(path, len(ids))


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_vocabulary_of_another_size(folder, difference):
    path, size = str(folder / "vocab.txt"), len(WRITTEN["vocabulary"]())
    words = f"has {size} tokens, in {path}, but vocab_size is"
    error = one_line(vocabulary.check_size, path, size + difference)
    assert f"{words} {size + difference}" in error


def test_a_file_that_is_no_vocabulary(folder):
    error = one_line(vocabulary.read, str(folder / "dev.json"))
    assert "lacks [PAD], [UNK], [CLS], [SEP], [MASK]" in error
    (folder / "vocab.txt").write_bytes(b"[PAD]\n\xff\n")
    error = one_line(vocabulary.read, str(folder / "vocab.txt"))
    assert "not UTF-8 at byte 6" in error
