"""A few questions, written by hand, in the form of SQuAD v1.1.

Not a test; run by path, because the tests are no package.
"""

import json
import re
from pathlib import Path
from typing import Any

from official.nlp.data import squad_lib
from official.nlp.tools import tokenization

from tf_largebatch.bert import questions
from tf_largebatch.garden import recipes
from tf_largebatch.garden.overrides import override

ADA = (
    "Ada Lovelace wrote the first program in 1843 for the engine of Charles "
    "Babbage. It was to compute numbers that Jacob Bernoulli had found."
)
PARIS = (
    "The tower in Paris is made of iron. It was built from 1887 to 1889 by "
    "the company of Gustave Eiffel, whose name it has. Every year seven "
    "million people climb it, most of them with a lift, and some by stairs."
)
# Question, and its answers.
QUESTIONS = {
    ADA: [
        ("Who wrote the first program?", ["Ada Lovelace"]),
        ("When was the first program written?", ["1843", "in 1843"]),
        ("What did Ada Lovelace write?", ["the first program", "program"]),
        ("What was it for?", ["the engine of Charles Babbage"]),
        ("Who found the numbers?", ["Jacob Bernoulli"]),
    ],
    PARIS: [
        ("Of what is the tower made?", ["iron"]),
        ("Whose company built the tower?", ["Gustave Eiffel"]),
        ("How many people climb the tower?", ["seven million"]),
        ("How do most of them climb it?", ["with a lift", "a lift"]),
    ],
}
LENGTH = 64
STEPS = 4
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def squad(one_answer: bool = False) -> dict[str, Any]:
    """Returns the questions as SQuAD's JSON has them; ids are q0, q1, ..."""
    numbers = iter(range(99))
    paragraphs = [
        {
            "context": context,
            "qas": [
                {
                    "id": f"q{next(numbers)}",
                    "question": question,
                    "answers": [
                        {"text": text, "answer_start": context.index(text)}
                        for text in texts[: 1 if one_answer else None]
                    ],
                }
                for question, texts in questions
            ],
        }
        for context, questions in QUESTIONS.items()
    ]
    articles = [
        {"title": f"Article {number}", "paragraphs": [paragraph]}
        for number, paragraph in enumerate(paragraphs)
    ]
    return {"version": "1.1", "data": articles}


def vocabulary() -> list[str]:
    """Returns the tokens of all words, but the longest in two pieces."""
    texts = [
        text
        for context, questions in QUESTIONS.items()
        for text in (context, *(question for question, _ in questions))
    ]
    words = {
        word
        for text in texts
        for word in re.findall(r"\w+|[^\w\s]", text.lower())
    }
    whole = {word for word in words if len(word) < 8}
    pieces = {
        piece for word in words - whole for piece in (word[:4], f"##{word[4:]}")
    }
    return [*SPECIAL, *sorted(whole | pieces)]


def write(folder: Path) -> Path:
    """Writes vocab.txt, train.json and dev.json."""
    (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n")
    (folder / "train.json").write_text(json.dumps(squad(one_answer=True)))
    (folder / "dev.json").write_text(json.dumps(squad()))
    return folder


def write_records(folder: Path) -> Path:
    """Writes what :func:`write` does and train-0, with a feature a question."""
    write(folder)
    writer = squad_lib.FeatureWriter(str(folder / "train-0"), is_training=True)
    for feature in questions.cut(
        questions.examples(str(folder / "train.json"), training=True),
        tokenization.FullTokenizer(str(folder / "vocab.txt")),
        *(LENGTH, 16, 10),
        training=True,
    ):
        writer.process_feature(feature)
    writer.close()
    return folder


def settings(folder: Path, **overrides: Any) -> Any:
    """Returns the experiment with a network for these questions."""
    config = recipes.experiment("largebatch/bert_squad")
    override(config, small(folder), "the test")
    override(config, overrides, "the test")
    return config


def small(folder: Path) -> dict[str, Any]:
    """Returns settings that make the network small, and name the data.

    Features for evaluation are shorter than for training, so that a text
    becomes several.
    """
    schedule = {"peak": 3e-3, "total_steps": STEPS, "warmup_steps": 1}
    encoder = {
        "vocab_size": len(vocabulary()),
        "hidden_size": 16,
        "num_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": LENGTH,
    }
    return {
        "task": {
            "model": {"encoder": {"type": "bert", "bert": encoder}},
            "train_data": {
                "input_path": f"{folder}/train-*",
                "global_batch_size": 8,
                "seq_length": LENGTH,
                "seed": 0,
            },
            "validation_data": {
                "input_path": f"{folder}/dev.json",
                "vocab_file": f"{folder}/vocab.txt",
                "global_batch_size": 8,
                "seq_length": 32,
                "doc_stride": 8,
                "query_length": 10,
            },
        },
        "trainer": {
            "train_steps": STEPS,
            "steps_per_loop": 1,
            "summary_interval": 1,
            "validation_interval": STEPS,
            "checkpoint_interval": 1,
            "micro_batch_size": 4,
            "optimizer_config": {
                "optimizer": {
                    "type": "largebatch_adam",
                    "largebatch_adam": {
                        "weight_decay": 0.01,
                        "global_clipnorm": 0.5,
                    },
                },
                "learning_rate": {
                    "type": "largebatch_bert_polynomial",
                    "largebatch_bert_polynomial": schedule,
                },
            },
        },
        "runtime": {
            "distribution_strategy": "one_device",
            "mixed_precision_dtype": "float32",
        },
    }
