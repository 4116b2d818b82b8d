"""The text and the questions that need no download."""

import re

import pytest

from tf_largebatch.bert import demo, questions, vocabulary


@pytest.fixture(scope="module")
def found():
    return list(demo.documents())


def test_there_is_enough_text(found):
    assert len(found) > 150
    assert sum(map(len, found)) > 2000
    assert min(map(len, found)) > 1


def test_no_sentence_comes_twice(found):
    sentences = [sentence for document in found for sentence in document]
    assert len(set(sentences)) == len(sentences)


def test_it_is_prose(found):
    sentences = [sentence for document in found for sentence in document]
    for sentence in sentences:
        assert sentence[-1] in ".?!\"'”’)"
        assert "\n" not in sentence and "  " not in sentence
    text = "\n".join(sentences)
    for code in (">>>", "::=", "+---", "****", "===="):
        assert code not in text
    words = re.findall(r"\S+", text)
    plain = sum(
        re.fullmatch(r"[\w’-]+[.,;:]?", word) is not None for word in words
    )
    assert plain > 0.85 * len(words)


@pytest.mark.parametrize(
    "block, expected",
    [
        ("  An *argument* is\n  **passed**. [3]", "An argument is passed."),
        ('The "if" statement, ‘"is"’.', "The if statement, ‘is’."),
        ("(2) A reference-\n  counting scheme", "A reference-counting scheme"),
        ("* An item", "An item"),
        ("10. An item", "An item"),
        ("[1] A footnote", "A footnote"),
        ("x * y * z and a**b", "x * y * z and a**b"),
    ],
)
def test_markup_is_taken_away(block, expected):
    assert demo.clean(block) == expected


@pytest.mark.parametrize(
    "sentence",
    [
        "Too short.",
        "this one has no capital letter.",
        "This one has no end",
        "The following will then fail:",
        "Lists = [[] for i in range(3)] + x[0].",
    ],
)
def test_what_is_no_prose_is_left_out(sentence):
    assert not demo.is_prose(sentence)


def test_sections_are_documents():
    first, second = (f"A sentence with {n} in it. " * 2 for n in "12")
    topics = {"b": f"Title\n*****\n\n{first}\n\nSub\n===\n\n   {second}"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "topics", topics)
        assert list(demo.documents()) == []  # Each sentence is there twice.
        topics["b"] = topics["b"].replace("1 in it. A", "1 in it. Another")
        assert list(demo.documents()) == [
            ["A sentence with 1 in it.", "Another sentence with 1 in it."]
        ]


@pytest.mark.parametrize(
    "path, training, count", [(demo.TRAIN, True, 30), (demo.DEV, False, 10)]
)
def test_the_questions_are_squads(path, training, count):
    articles = questions.read(path, training)
    assert len(list(questions.questions_of(path, articles))) == count


@pytest.mark.parametrize("path", [demo.TRAIN, demo.DEV])
def test_the_questions_are_on_the_text(found, path):
    text = " ".join(" ".join(document) for document in found)
    articles = questions.read(path)
    for context, _ in questions.questions_of(path, articles):
        assert context in text


def test_no_passage_is_for_training_and_for_evaluation():
    train, dev = (
        {
            context
            for context, _ in questions.questions_of(path, questions.read(path))
        }
        for path in (demo.TRAIN, demo.DEV)
    )
    assert not train & dev


def test_answers_can_be_pointed_at(tmp_path):
    """Each is whole tokens of its passage, and in a feature as a whole."""
    tokens = {
        word
        for context, question in questions.questions_of(
            demo.TRAIN, questions.read(demo.TRAIN)
        )
        for word in re.findall(
            r"[a-z0-9]+|[^\w\s]|_", f"{context} {question['question']}".lower()
        )
    }
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*vocabulary.REQUIRED, *sorted(tokens)]))
    tokenizer = vocabulary.tokenizer(str(path), True)
    examples = questions.examples(demo.TRAIN, training=True)
    features = questions.cut(examples, tokenizer, 128, 64, 64, training=True)
    answered = set()
    for feature in features:
        example = examples[feature.example_index]
        first, last = feature.start_position, feature.end_position
        if not feature.is_impossible:
            assert feature.tokens[first : last + 1] == tokenizer.tokenize(
                example.orig_answer_text
            )
            answered.add(example.qas_id)
    assert len(answered) == 30
