"""SQuAD v1.1: its JSON is read, checked, and cut into features."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from official.nlp.data import squad_lib
from official.nlp.tools import tokenization

from tf_largebatch.bert import text_files
from tf_largebatch.errors import UserError

Article = dict[str, Any]
# Of a file for training; what a process then works on for a minute.
QUESTIONS_A_FILE = 4096
# [CLS], and [SEP] after the question and after the paragraph.
SPECIAL_TOKENS = 3


def read(path: str, training: bool = False) -> list[Article]:
    """Returns the articles of a SQuAD file, as its JSON has them.

    Args:
        path: of the file.
        training: whether it is to be trained on, for which a question has
            one answer.

    Raises:
        UserError: the file cannot be read, is no SQuAD v1.1, or has an answer
            that does not stand in its paragraph.
    """
    articles = load(path)
    seen = set()
    for context, question in questions_of(path, articles):
        name = question["id"]
        problem = problem_of(context, question, training)
        if name in seen:
            problem = "the question is there twice"
        if problem:
            raise UserError(
                f"{problem}, in {path}, question {name}; give SQuAD v1.1"
            )
        seen.add(name)
    if not seen:
        raise UserError(f"there is no question, in {path}; give SQuAD v1.1")
    return articles


def load(path: str) -> list[Article]:
    """Returns what stands under ``data`` in a JSON file."""
    text = text_files.read(path)
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(
            f"the file is no JSON ({error}), in {path}; give SQuAD v1.1"
        ) from error
    if not isinstance(content, dict) or not isinstance(
        content.get("data"), list
    ):
        raise UserError(
            f"the JSON has no list `data`, in {path}; give SQuAD v1.1"
        )
    return content["data"]


def questions_of(
    path: str, articles: list[Article]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each paragraph's text with each of its questions."""
    last = "none"
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    context = paragraph["context"]
                    well_formed = all(
                        isinstance(value, str)
                        for value in (
                            *(context, question["id"], question["question"]),
                        )
                    )
                    if not well_formed:
                        raise TypeError("a text is no string")
                    yield context, question
                    last = question["id"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"the JSON is not of SQuAD's form ({error!r}), in {path}, after "
            f"question {last}; give SQuAD v1.1"
        ) from error


def problem_of(
    context: str, question: dict[str, Any], training: bool
) -> str | None:
    """Returns what is wrong with a question, if something is."""
    if question.get("is_impossible"):
        return "the question has no answer, as in SQuAD v2 (is_impossible)"
    answers = question.get("answers")
    if not answers or not isinstance(answers, list):
        return "the question has no answer"
    if training and len(answers) != 1:
        return f"the question has {len(answers)} answers, not 1 for training"
    for answer in answers:
        try:
            text, start = answer["text"], answer["answer_start"]
            stands = context[start : start + len(text)] == text
        except (KeyError, TypeError):
            return "an answer is not of SQuAD's form"
        if not text.strip() or start < 0 or not stands:
            return (
                f"the answer {text!r} does not stand at {start} of its "
                "paragraph"
            )
    return None


def examples(path: str, training: bool) -> list[squad_lib.SquadExample]:
    """Returns the questions of a file that :func:`read` has checked."""
    return squad_lib.read_squad_examples(
        path, is_training=training, version_2_with_negative=False
    )


def cut(
    questions: list[squad_lib.SquadExample],
    tokenizer: tokenization.FullTokenizer,
    seq_length: int,
    doc_stride: int,
    query_length: int,
    training: bool,
) -> list[squad_lib.InputFeatures]:
    """Cuts questions with their paragraphs into features of one length.

    A paragraph that is too long becomes several features, which overlap.

    Args:
        questions: what :func:`examples` returns.
        tokenizer: cuts text into tokens.
        seq_length: tokens of a feature.
        doc_stride: how many tokens further the next feature begins.
        query_length: tokens of a question; the rest of it is left out.
        training: whether features have the answer's place.

    Raises:
        UserError: the lengths leave no room for the paragraph.
    """
    check_lengths(seq_length, doc_stride, query_length)
    features: list[squad_lib.InputFeatures] = []

    def keep(
        feature: squad_lib.InputFeatures, is_padding: bool = False
    ) -> None:
        if not is_padding:
            features.append(feature)

    squad_lib.convert_examples_to_features(
        questions,
        tokenizer,
        seq_length,
        doc_stride,
        query_length,
        is_training=training,
        output_fn=keep,
        batch_size=1,
    )
    return features


def check_lengths(seq_length: int, doc_stride: int, query_length: int) -> None:
    """Raises UserError where features of these lengths cannot be made."""
    if query_length < 1 or seq_length <= query_length + SPECIAL_TOKENS:
        raise UserError(
            f"seq_length is {seq_length} and query_length {query_length}; the "
            f"one must be greater than the other by {SPECIAL_TOKENS + 1} or "
            "more, and both at least 1"
        )
    if doc_stride < 1:
        raise UserError(f"doc_stride is {doc_stride}; give 1 or more")


@dataclasses.dataclass(frozen=True)
class Job:
    """Questions to be made a TFRecord file of, for training.

    Attributes:
        questions: SQuAD's JSON, which :func:`read` has checked.
        out: the file to be.
        vocab_file: the vocabulary.
        do_lower_case: whether it is one without capitals.
        seq_length: tokens of a feature.
        doc_stride: how many tokens further the next feature begins.
        query_length: tokens of a question; the rest of it is left out.
    """

    questions: str
    out: str
    vocab_file: str
    do_lower_case: bool
    seq_length: int
    doc_stride: int
    query_length: int


def write(job: Job) -> int:
    """Writes the features of a job's questions; returns how many."""
    written = squad_lib.generate_tf_record_from_json_file(
        job.questions,
        job.vocab_file,
        job.out,
        max_seq_length=job.seq_length,
        do_lower_case=job.do_lower_case,
        max_query_length=job.query_length,
        doc_stride=job.doc_stride,
    )
    return written["train_data_size"]


def parts(articles: list[Article]) -> Iterator[list[Article]]:
    """Yields articles that follow each other, with some questions each."""
    part: list[Article] = []
    size = 0
    for article in articles:
        part.append(article)
        size += sum(len(each["qas"]) for each in article["paragraphs"])
        if size >= QUESTIONS_A_FILE:
            yield part
            part, size = [], 0
    if size:
        yield part
