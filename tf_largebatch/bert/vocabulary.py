"""The WordPiece vocabulary: a file with a token a line, read or learnt."""

import collections
from collections.abc import Mapping, Sequence

from official.nlp.tools import tokenization

from tf_largebatch.bert import text_files
from tf_largebatch.errors import UserError

# What BERT cannot do without, in the order in which a learnt one has them.
REQUIRED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNUSED = "[unused{}]"
# Rarer words and characters are left out when a vocabulary is learnt. That
# takes time by the words, and of all Wikipedia there are millions.
MOST_WORDS = 500_000
MOST_CHARACTERS = 1000
LONGEST_WORD = 50


def read(path: str) -> list[str]:
    """Returns the tokens of a vocabulary file, in the order of their ids.

    Raises:
        UserError: the file cannot be read, lacks a token that BERT needs, or
            has one twice.
    """
    lines = text_files.read(path).removesuffix("\n").split("\n")
    tokens = [line.strip() for line in lines]
    missing = [token for token in REQUIRED if token not in tokens]
    if missing:
        raise UserError(
            f"the vocabulary lacks {', '.join(missing)}, in {path}; give a "
            "WordPiece vocabulary, such as the vocab.txt of a BERT"
        )
    twice = [token for token, n in collections.Counter(tokens).items() if n > 1]
    if twice:
        raise UserError(
            f"the vocabulary has {twice[0]!r} more than once, in {path}, line "
            f"{len(tokens) - tokens[::-1].index(twice[0])}; take out what is "
            "there twice"
        )
    return tokens


def check_size(path: str, vocab_size: int) -> None:
    """Raises UserError if a vocabulary file is not the one of a network."""
    size = len(read(path))
    if size != vocab_size:
        raise UserError(
            f"the vocabulary has {size} tokens, in {path}, but vocab_size is "
            f"{vocab_size}, in task.model.encoder; make them agree"
        )


def tokenizer(path: str, do_lower_case: bool) -> tokenization.FullTokenizer:
    """Returns what cuts text into the tokens of a vocabulary file.

    Raises:
        UserError: the file cannot be read, or lacks a token that BERT needs.
    """
    read(path)
    return tokenization.FullTokenizer(path, do_lower_case)


def count_words(path: str, do_lower_case: bool) -> collections.Counter[str]:
    """Returns how often each word is in a text file.

    Words are what the tokenizer cuts into WordPieces.
    """
    words = tokenization.BasicTokenizer(do_lower_case)
    counts: collections.Counter[str] = collections.Counter()
    for line in text_files.read(path).split("\n"):
        counts.update(words.tokenize(line))
    return counts


def learn(counts: Mapping[str, int], vocab_size: int) -> list[str]:
    """Returns the tokens of a vocabulary for words that are so frequent.

    TensorFlow Text learns them. All characters are in it, so that hardly a
    word is unknown. It is filled up with unused tokens, as the original's is.

    Args:
        counts: how often each word was seen.
        vocab_size: how many tokens there are to be.

    Raises:
        UserError: it is too small for all characters.
    """
    from tensorflow_text.tools.wordpiece_vocab import (
        wordpiece_tokenizer_learner_lib as learner,
    )

    learnt = learner.learn(
        sorted(counts.items()),
        vocab_size,
        [*REQUIRED],
        lower_thresh=1,
        max_input_tokens=MOST_WORDS,
        max_token_length=LONGEST_WORD,
        max_unique_chars=MOST_CHARACTERS,
    )
    return fit(learnt[len(REQUIRED) :], vocab_size)


def fit(learnt: Sequence[str], vocab_size: int) -> list[str]:
    """Returns tokens with the required ones first, as many as there are to be.

    Args:
        learnt: tokens, the more frequent ones first; they may be too many or
            too few.
        vocab_size: how many there are to be.

    Raises:
        UserError: the characters alone are too many.
    """
    # Stable: the characters come first, and the rarest words are cut off.
    ordered = sorted(learnt, key=lambda token: not is_character(token))
    least = len(REQUIRED) + sum(map(is_character, ordered))
    if vocab_size < least:
        raise UserError(
            f"vocab_size is {vocab_size}, and the characters of the text alone "
            f"make {least} tokens; give more"
        )
    tokens = [*REQUIRED, *ordered][:vocab_size]
    unused = map(UNUSED.format, range(vocab_size - len(tokens)))
    return [*tokens, *unused]


def is_character(token: str) -> bool:
    """Whether a token is one character, at a word's beginning or within it."""
    return len(token.removeprefix("##")) == 1
