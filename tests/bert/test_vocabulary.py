"""WordPiece vocabularies, read and learnt."""

import collections

import pytest

from tf_largebatch.bert import vocabulary
from tf_largebatch.errors import UserError

TEXT = (
    "walking talking walked talked walks talks jumping jumped jumps\n"
    "Walking, talking: jumping!\n\nÉté été walking\n"
) * 20


@pytest.fixture
def counts(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return vocabulary.count_words(str(path), do_lower_case=True)


def write(path, tokens):
    path.write_text("\n".join([*tokens, ""]))
    return str(path)


@pytest.mark.parametrize("missing", vocabulary.REQUIRED)
def test_a_token_that_bert_needs_is_missing(tmp_path, missing):
    tokens = [t for t in vocabulary.REQUIRED if t != missing]
    path = write(tmp_path / "vocab.txt", [*tokens, "word"])
    with pytest.raises(UserError) as caught:
        vocabulary.read(path)
    assert f"the vocabulary lacks {missing}, in {path};" in str(caught.value)


def test_a_token_that_is_there_twice(tmp_path):
    path = write(
        tmp_path / "vocab.txt", [*vocabulary.REQUIRED, "a", "b", "a ", "c"]
    )
    with pytest.raises(UserError) as caught:
        vocabulary.read(path)
    assert f"has 'a' more than once, in {path}, line 8;" in str(caught.value)


def test_words_are_those_of_the_tokenizer(counts):
    assert counts["walking"] == 60
    assert counts["ete"] == 40
    assert counts[","] == counts[":"] == counts["!"] == 20
    assert not {word for word in counts if word != word.lower()}


def test_capitals_count_where_the_vocabulary_has_them(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    counts = vocabulary.count_words(str(path), do_lower_case=False)
    assert (counts["walking"], counts["Walking"], counts["Été"]) == (40, 20, 20)


@pytest.mark.parametrize("size", [60, 70, 300])
def test_a_learnt_vocabulary_has_the_size_asked_for(counts, size, tmp_path):
    tokens = vocabulary.learn(counts, size)
    path = write(tmp_path / "vocab.txt", tokens)
    assert vocabulary.read(path) == tokens
    assert len(tokens) == size
    assert tuple(tokens[:5]) == vocabulary.REQUIRED
    vocabulary.check_size(path, size)


def test_it_has_the_frequent_words_and_all_characters(counts, tmp_path):
    tokens = vocabulary.learn(counts, 70)
    path = write(tmp_path / "vocab.txt", tokens)
    tokenizer = vocabulary.tokenizer(path, True)
    assert tokenizer.tokenize("Walking talking") == ["walking", "talking"]
    unseen = tokenizer.tokenize("swimming, jet!")
    assert "[UNK]" not in unseen
    assert "".join(unseen).replace("##", "") == "swimming,jet!"


def test_it_does_not_depend_on_the_order_of_counting(counts):
    backwards = collections.Counter(dict(reversed(counts.items())))
    assert vocabulary.learn(counts, 70) == vocabulary.learn(backwards, 70)


def test_too_small_for_the_characters(counts):
    letters = {letter for word in counts for letter in word}
    least = 5 + 2 * len(letters)
    with pytest.raises(UserError, match=f"alone make {least} tokens"):
        vocabulary.learn(counts, least - 1)
    assert len(vocabulary.learn(counts, least)) == least


def test_the_rarest_words_are_cut_off_but_no_character():
    learnt = ["a", "frequent", "less", "rare", "##a"]
    tokens = vocabulary.fit(learnt, 9)
    assert tokens[5:] == ["a", "##a", "frequent", "less"]


def test_it_is_filled_up_with_unused_tokens():
    tokens = vocabulary.fit(["a", "word"], 9)
    assert tokens[5:] == ["a", "word", "[unused0]", "[unused1]"]
