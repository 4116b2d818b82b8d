"""F1 and exact match: by hand, and every feature once."""

import pathlib
import runpy

import numpy as np
import pytest
from official.nlp.tools import tokenization

from tf_largebatch.bert import answers
from tf_largebatch.errors import RunError

WRITTEN = runpy.run_path(
    str(pathlib.Path(__file__).with_name("written_questions.py"))
)
# What is answered, its F1, and whether it is an exact match.
ANSWERS = [
    ("Lovelace", 2 / 3, 0),  # Right are 1 word of 1; found is 1 of 2.
    ("1843", 1, 1),
    # The article does not count: 2 of 4, 2 of 2. The other answer is worse.
    ("the first program in 1843", 2 / 3, 0),
    ("engine of Charles Babbage.", 1, 1),  # Nor does the full stop.
    ("numbers", 0, 0),
    ("of iron", 2 / 3, 0),
    ("Gustave Eiffel, whose name", 2 / 3, 0),  # 2 of 4, 2 of 2.
    ("seven million people climb it", 4 / 7, 0),  # 2 of 5, 2 of 2.
    ("a lift", 1, 1),
]
COLUMNS = {
    "input_word_ids": "input_ids",
    "input_mask": "input_mask",
    "input_type_ids": "segment_ids",
}
FORM = {"n_best_size": 20, "max_answer_length": 30}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return WRITTEN["write"](tmp_path_factory.mktemp("squad"))


@pytest.fixture(scope="module")
def make(folder):
    """A function that returns the questions, cut as it is told to."""

    def questionnaire(**lengths):
        data = answers.DataConfig(
            input_path=str(folder / "dev.json"),
            vocab_file=str(folder / "vocab.txt"),
            **{
                "seq_length": 32,
                "doc_stride": 8,
                "query_length": 10,
                **lengths,
            },
        )
        return answers.Questionnaire(data)

    return questionnaire


def logits_of(questions, texts):
    """Returns logits that are 1 where a question's text begins and ends."""
    tokenizer = tokenization.FullTokenizer(questions.data.vocab_file)
    shape = (len(questions.features), questions.data.seq_length)
    starts, ends = np.zeros(shape, "f4"), np.zeros(shape, "f4")
    for row, feature in enumerate(questions.features):
        wanted = tokenizer.tokenize(texts[feature.example_index])
        for first in feature.token_to_orig_map:
            last = first + len(wanted) - 1
            if feature.tokens[first : last + 1] == wanted:
                starts[row, first] = ends[row, last] = 1
    return starts, ends


def figures_of(questions, texts, **form):
    numbers = np.arange(len(questions.features))
    return questions.figures(
        numbers, *logits_of(questions, texts), **{**FORM, **form}
    )


def test_figures_equal_those_by_hand(make):
    texts, f1, exact = zip(*ANSWERS)
    assert figures_of(make(), texts) == pytest.approx(
        {
            "final_f1": sum(f1) / 9,
            "exact_match": sum(exact) / 9,
            "questions": 9,
        },
        rel=1e-12,
    )


@pytest.mark.parametrize("right", range(len(ANSWERS)))
def test_every_question_counts_alike(make, right):
    """However many features it has, and though the rest be wrong."""
    texts = ["was"] * len(ANSWERS)
    texts[right] = ANSWERS[right][0]
    found = figures_of(make(), texts)
    assert found["final_f1"] == pytest.approx(ANSWERS[right][1] / 9)
    assert found["exact_match"] == pytest.approx(ANSWERS[right][2] / 9)


def test_an_answer_may_be_too_long(make):
    texts = [text for text, _, _ in ANSWERS]
    whole = figures_of(make(), texts)
    assert figures_of(make(), texts, max_answer_length=5) == whole
    # "engine of Charles Babbage." was right, and has 5 tokens.
    less = figures_of(make(), texts, max_answer_length=4)
    assert less["exact_match"] == pytest.approx(2 / 9)


@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize("replicas", [2, 4])
@pytest.mark.parametrize("batch", [1, 3, 7, 30, 64])
def test_every_feature_is_there_once(make, batch, replicas, hosts):
    questions = make()
    shares = [
        [*questions.dataset(batch, replicas, host, hosts).as_numpy_iterator()]
        for host in range(hosts)
    ]
    count = -(-len(questions.features) // (batch * replicas))
    assert {len(share) for share in shares} == {count * replicas // hosts}
    elements = [element for share in shares for element in share]
    assert {len(element["numbers"]) for element in elements} == {batch}
    columns = {
        name: np.concatenate([element[name] for element in elements])
        for name in elements[0]
    }
    real = columns["numbers"] != answers.PADDING
    numbers = columns["numbers"][real]
    np.testing.assert_array_equal(
        np.sort(numbers), np.arange(len(questions.features))
    )
    for name, column in COLUMNS.items():
        assert columns[name].dtype == np.int32
        np.testing.assert_array_equal(
            columns[name][real],
            [getattr(questions.features[n], column) for n in numbers],
        )


def test_figures_do_not_depend_on_the_order_or_on_padding(make):
    questions = make()
    texts = [text for text, _, _ in ANSWERS]
    starts, ends = logits_of(questions, texts)
    order = np.random.default_rng(0).permutation(len(starts))
    padding = np.full(5, answers.PADDING)
    noise = np.full((5, starts.shape[1]), 9, "f4")
    found = questions.figures(
        np.concatenate([order, padding]),
        np.concatenate([starts[order], noise]),
        np.concatenate([ends[order], noise]),
        **FORM,
    )
    assert found == figures_of(questions, texts)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda numbers: numbers[1:], "1 were not predicted and 0 more than"),
        (lambda numbers: [0, *numbers], "0 were not predicted and 1 more than"),
        (lambda numbers: [1, *numbers[1:]], "1 were not predicted and 1 more"),
    ],
)
def test_a_feature_missing_or_predicted_twice_is_an_error(make, change, words):
    questions = make()
    numbers = np.array(change(np.arange(len(questions.features))))
    logits = np.zeros((len(numbers), questions.data.seq_length), "f4")
    with pytest.raises(RunError, match=words):
        questions.figures(numbers, logits, logits, **FORM)


def test_a_network_that_diverged_answers_all_the_same(make):
    questions = make()
    shape = (len(questions.features), questions.data.seq_length)
    for value in (np.nan, np.inf):
        logits = np.full(shape, value, "f4")
        numbers = np.arange(len(logits))
        found = questions.figures(numbers, logits, logits, **FORM)
        assert 0 <= found["final_f1"] < 0.5
