"""Text made into the data of both phases, and of SQuAD."""

import concurrent.futures
import functools
import json
import pathlib

import pytest
import tensorflow as tf

from tf_largebatch import parallel, records
from tf_largebatch.bert import demo, documents, text, vocabulary
from tf_largebatch.errors import UserError

DOCUMENTS = 24
FIFTH = 0.2
SQUAD = {
    "squad_train": demo.TRAIN,
    "squad_dev": demo.DEV,
    "squad_length": 128,
}
SMALL = {
    "max_seq_length": (16, 32),
    "max_predictions_per_seq": (2, 5),
    "dupe_factor": 3,
    "validation_fraction": FIFTH,
}
# [CLS], [SEP], [MASK].
CLS, SEP, MASK = 2, 3, 4


def word(document, place):
    """Returns a word that says where it stands.

    Its first letter says whether that is a document for validation.
    """
    first = "v" if document % 5 == 4 else "t"
    return f"{first}{document:02}x{place:03}".translate(
        str.maketrans("0123456789", "abcdefghij")
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Text of words that say where they stand, with its vocabulary."""
    folder = tmp_path_factory.mktemp("corpus")
    words = [[word(n, i) for i in range(12 + n)] for n in range(DOCUMENTS)]
    tokens = [*vocabulary.REQUIRED, *sum(words, [])]
    (folder / "vocabulary").write_text("\n".join([*tokens, ""]))
    lines = [
        "".join(
            " ".join(each[i : i + 4]).capitalize() + "\n"
            for i in range(0, len(each), 4)
        )
        for each in words
    ]
    (folder / "a.txt").write_text("\n\n".join(lines[:15]))
    (folder / "b.txt").write_text("\n".join(lines[15:]))
    return folder


@pytest.fixture(scope="module")
def build(corpus, tmp_path_factory):
    """A function that makes data of that text, cut into small files.

    It does so in threads, unless it is told how to start processes.
    """

    def run(start=concurrent.futures.ThreadPoolExecutor, **changes):
        folder = tmp_path_factory.mktemp("made") / "data"
        settings = text.Settings(
            **{
                **SMALL,
                "input": f"{corpus}/*.txt",
                "vocab_file": f"{corpus}/vocabulary",
                **changes,
            }
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(text, "LEAST_TEXT", 800)
            patch.setattr(parallel, "start", start)
            return folder, text.build(folder, settings, 2)

    return run


@pytest.fixture(scope="module")
def made(build):
    """The data, with SQuAD's."""
    return build(**SQUAD)


@pytest.fixture(scope="module")
def learnt(build):
    """A function that makes data with a vocabulary of its own."""
    return functools.partial(
        build,
        vocab_file="",
        vocab_size=60,
        max_seq_length=(64,),
        max_predictions_per_seq=(10,),
        **SQUAD,
    )


@pytest.fixture(scope="module")
def by_processes(learnt):
    """Such data, made by two processes."""
    return learnt(parallel.start)


def examples(folder, name):
    """Returns all records, file by file."""
    return [
        {
            key: list(feature.int64_list.value or feature.float_list.value)
            for key, feature in tf.train.Example.FromString(
                record.numpy()
            ).features.feature.items()
        }
        for path in sorted(folder.glob(f"{name}-*"))
        for record in tf.data.TFRecordDataset(str(path))
    ]


def names(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
    )


def test_the_folder_is_laid_out_as_recipes_expect(made):
    folder, _ = made
    phases = [
        f"{phase}/{name}"
        for phase in ("phase1", "phase2")
        for name in (
            *(f"train-0000{n}-of-00004" for n in range(4)),
            "validation-00000-of-00001",
        )
    ]
    squad = ["squad/dev.json", "squad/train-00000-of-00001"]
    assert names(folder) == ["data.json", *phases, *squad, "vocab.txt"]
    assert (folder / "squad" / "dev.json").read_bytes() == (
        pathlib.Path(demo.DEV).read_bytes()
    )
    assert [path.name for path in folder.parent.iterdir()] == ["data"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_the_records_are_counted(made):
    folder, counts = made
    kinds = [f"phase{n}/{s}" for n in "12" for s in ("train", "validation")]
    assert [*counts] == [*kinds, "squad/train"]
    for name, count in counts.items():
        source = records.open_files(f"{folder}/{name}-*")
        assert sum(source.counts) == count > 0
    assert json.loads((folder / "data.json").read_text())["records"] == counts


def test_processes_make_no_difference(by_processes, learnt):
    folder, counts = by_processes
    again, _ = learnt()
    tokens = (folder / "vocab.txt").read_text()
    assert (again / "vocab.txt").read_text() == tokens
    for name in counts:
        assert examples(folder, name) == examples(again, name)


def test_every_file_has_a_seed_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "run", lambda *given: given[3])
    monkeypatch.setattr(text, "add_up", lambda names, jobs: jobs)
    files = {split: [tmp_path / f"{split}{n}" for n in "01"] for split in "ab"}
    seeds = set()
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        settings = text.Settings(**{**RIGHT, "seed": seed})
        jobs = text.write_phases(folder, settings, files, None)
        assert len(jobs) == 8
        seeds |= {job.seed for job in jobs}
    assert len(seeds) == 16


@pytest.fixture(params=["phase1", "phase2"])
def phase(request, made, corpus):
    """A phase's lengths, its examples by split, and the vocabulary."""
    folder, _ = made
    number = int(request.param[-1]) - 1
    return (
        SMALL["max_seq_length"][number],
        SMALL["max_predictions_per_seq"][number],
        {
            split: examples(folder, f"{request.param}/{split}")
            for split in text.SPLITS
        },
        vocabulary.read(str(corpus / "vocabulary")),
    )


def restored(example):
    """Returns the ids before any were masked, without padding."""
    ids = example["input_ids"][: sum(example["input_mask"])]
    for place, label, weight in zip(
        example["masked_lm_positions"],
        example["masked_lm_ids"],
        example["masked_lm_weights"],
    ):
        if weight:
            ids[place] = label
    return ids


def test_examples_have_the_form_of_the_original(phase):
    length, predictions, splits, _ = phase
    for example in sum(splits.values(), []):
        count = sum(example["input_mask"])
        padding = [0] * (length - count)
        assert example["input_mask"] == [1] * count + padding
        ids = restored(example)
        assert example["input_ids"][count:] == padding
        middle = ids.index(SEP)
        assert ids[0] == CLS and ids[-1] == SEP
        assert ids.count(SEP) == 2 and ids.count(CLS) == 1
        second = count - middle - 1
        assert second > 1 and middle > 1
        segments = [0] * (middle + 1) + [1] * second
        assert example["segment_ids"] == segments + padding
        wanted = min(predictions, max(1, round(0.15 * count)))
        rest = predictions - wanted
        assert example["masked_lm_weights"] == [1.0] * wanted + [0.0] * rest
        places = example["masked_lm_positions"]
        assert (
            places[wanted:] == example["masked_lm_ids"][wanted:] == [0] * rest
        )
        assert sorted(set(places[:wanted])) == places[:wanted]
        assert not {0, middle, count - 1} & set(places[:wanted])


def test_sentences_follow_each_other_or_are_of_other_documents(phase):
    _, _, splits, tokens = phase
    found = set()
    for example in sum(splits.values(), []):
        words = [tokens[number] for number in restored(example)]
        middle = words.index("[SEP]")
        pair = words[1:middle], words[middle + 1 : -1]
        for part in pair:
            # Letters count up.
            assert part == sorted(part) and len({w[:3] for w in part}) == 1
        (label,) = example["next_sentence_labels"]
        same = pair[0][0][:3] == pair[1][0][:3]
        assert same == (not label)
        assert not same or pair[0][-1] < pair[1][0]
        found.add(label)
    assert found == {0, 1}


def test_every_fifth_document_is_for_validation_and_none_is_lost(phase):
    _, _, splits, tokens = phase
    seen = {
        split: {
            tokens[number][:3]
            for example in found
            for number in restored(example)
            if number > MASK
        }
        for split, found in splits.items()
    }
    wanted = {word(n, 0)[:3] for n in range(4, DOCUMENTS, 5)}
    assert seen["validation"] == wanted
    every = {word(n, 0)[:3] for n in range(DOCUMENTS)}
    assert seen["train"] == every - wanted


def test_four_in_five_are_masked(made):
    folder, _ = made
    kinds = {"masked": 0, "kept": 0, "other": 0}
    for example in examples(folder, "phase2/train"):
        for place, label, weight in zip(
            example["masked_lm_positions"],
            example["masked_lm_ids"],
            example["masked_lm_weights"],
        ):
            if weight:
                there = example["input_ids"][place]
                kind = {MASK: "masked", label: "kept"}.get(there, "other")
                kinds[kind] += 1
    total = sum(kinds.values())
    assert total > 300
    # Of so many, three standard deviations.
    for kind, share in (("masked", 0.8), ("kept", 0.1), ("other", 0.1)):
        deviation = (share * (1 - share) / total) ** 0.5
        assert abs(kinds[kind] / total - share) < 3 * deviation


def test_the_questions_have_the_length_asked_for(made):
    folder, counts = made
    found = examples(folder, "squad/train")
    assert {len(each["input_ids"]) for each in found} == {128}
    assert counts["squad/train"] == len(found) >= 30


def test_a_vocabulary_is_learnt_from_the_text_for_training(by_processes):
    """A letter that only documents for validation have is not in it."""
    folder, counts = by_processes
    tokens = vocabulary.read(str(folder / "vocab.txt"))
    assert len(tokens) == 60
    assert {"t", "x", "##a"} <= set(tokens)
    assert not {"v", "##v"} & set(tokens)
    assert [*counts] == ["phase1/train", "phase1/validation", "squad/train"]
    found = examples(folder, "phase1/train")
    assert {len(each["input_ids"]) for each in found} == {64}
    assert not any(1 in restored(each) for each in found)  # [UNK]


def test_text_is_cut_between_documents_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "LEAST_TEXT", 100)
    found = [[f"Sentence {n}.", "É" * 10] for n in range(50)]
    corpus = documents.Corpus("text", 1600, lambda: iter(found))
    files = text.cut(corpus, 0.1, tmp_path / "text")
    for split, paths in files.items():
        for path in paths[:-1]:
            assert 100 <= path.stat().st_size < 140
        read = documents.from_files(",".join(map(str, paths))).read()
        held_out = split == "validation"
        assert list(read) == [
            document
            for number, document in enumerate(found)
            if (number % 10 == 9) == held_out
        ]
    assert len(files["train"]) > 10


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3, 0.5, 1 / 3, 0.999, 0.0])
def test_the_share_for_validation_is_exact_at_every_point(fraction):
    count = 0
    for number in range(1, 2000):
        count += text.is_for_validation(number, fraction)
        assert abs(count - fraction * number) < 1 + 1e-9


RIGHT = {"input": "text.txt", "vocab_size": 100}
WRONG = {
    "no text": ({"input": ""}, "give one of --input=FILES and --tfds=NAME"),
    "two texts": ({"tfds": "wikipedia"}, "give one of --input=FILES"),
    "no vocabulary": ({"vocab_size": 0}, "give one of --vocab_file=FILE"),
    "two vocabularies": ({"vocab_file": "x"}, "give one of --vocab_file=FILE"),
    "format": ({"text_format": "pdf"}, "text_format is 'pdf'; give one of"),
    "phases": ({"max_seq_length": (64,)}, "has 1 values and max_predic"),
    "no phase": (
        {"max_seq_length": (), "max_predictions_per_seq": ()},
        "has 0 values",
    ),
    "too many predictions": (
        {"max_predictions_per_seq": (20, 600)},
        "max_seq_length is 512 and max_predictions_per_seq 600",
    ),
    "no room for special tokens": (
        {"max_predictions_per_seq": (126, 76)},
        "max_seq_length is 128 and max_predictions_per_seq 126",
    ),
    "no prediction": ({"max_predictions_per_seq": (20, 0)}, "per_seq 0;"),
    "too short": (
        {"max_seq_length": (128, 7), "max_predictions_per_seq": (20, 2)},
        "max_seq_length is 7",
    ),
    "all masked": ({"masked_lm_prob": 1.0}, "masked_lm_prob is 1.0; give 0"),
    "negative": ({"short_seq_prob": -0.1}, "short_seq_prob is -0.1"),
    "no training": ({"validation_fraction": 1.0}, "validation_fraction is 1"),
    "no number": ({"masked_lm_prob": float("nan")}, "masked_lm_prob is nan"),
    "no pass": ({"dupe_factor": 0}, "dupe_factor is 0"),
    "half of SQuAD": ({"squad_dev": "x"}, "give both of --squad_train and"),
    "no room for a paragraph": (
        {"squad_train": "x", "squad_dev": "y", "squad_length": 60},
        "seq_length is 60 and query_length 64",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_setting_that_cannot_be(case, tmp_path):
    changes, words = WRONG[case]
    with pytest.raises(UserError) as caught:
        text.build(tmp_path / "out", text.Settings(**{**RIGHT, **changes}))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_is_allowed_at_the_limits():
    text.check(
        text.Settings(
            **{
                **RIGHT,
                "max_seq_length": (8, 128),
                "max_predictions_per_seq": (5, 125),
                "short_seq_prob": 0.0,
                "validation_fraction": 0.0,
            }
        )
    )


BAD_FILES = {
    "no text": ("text.txt", b" \n\n\t\n", "there is no text, in"),
    "no UTF-8": ("text.txt", b"fine\n\xff\n", "is not UTF-8 at line 2, in"),
    "one document": (
        "text.txt",
        b"One.\nTwo.\n",
        "leaves nothing for validation of 1 documents, in",
    ),
    "vocabulary": (
        "vocab.txt",
        b"[PAD]\n[UNK]\n",
        "lacks [CLS], [SEP], [MASK]",
    ),
    "questions": ("squad.json", b"{}", "the JSON has no list `data`, in"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_and_nothing_is_left_behind(case, corpus, tmp_path):
    name, content, words = BAD_FILES[case]
    (tmp_path / name).write_bytes(content)

    def path(wanted, good):
        return str(tmp_path / wanted if wanted == name else good)

    settings = text.Settings(
        input=path("text.txt", corpus / "a.txt"),
        vocab_file=path("vocab.txt", corpus / "vocabulary"),
        squad_train=path("squad.json", demo.TRAIN),
        squad_dev=demo.DEV,
    )
    with pytest.raises(UserError) as caught:
        text.build(tmp_path / "new" / "data", settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert not list(tmp_path.glob("new/*"))


@pytest.mark.parametrize("name", ["used", "used/thesis.txt"])
def test_nothing_is_written_over(name, corpus, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("all my work")
    settings = text.Settings(input=f"{corpus}/a.txt", vocab_size=100)
    with pytest.raises(UserError, match=f"{tmp_path}/{name}"):
        text.build(tmp_path / name, settings)
    assert names(tmp_path) == ["used/thesis.txt"]
    assert (tmp_path / "used" / "thesis.txt").read_text() == "all my work"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError])
def test_what_is_stopped_leaves_nothing_behind(
    error, corpus, tmp_path, monkeypatch
):
    def stop(*_):
        raise error(28, "No space left on device")

    monkeypatch.setattr(parallel, "run", stop)
    settings = text.Settings(
        **{**SMALL, "input": f"{corpus}/*.txt", "vocab_size": 100}
    )
    expected = UserError if error is OSError else error
    with pytest.raises(expected) as caught:
        text.build(tmp_path / "data", settings)
    assert not list(tmp_path.iterdir())
    if expected is UserError:
        words = f"cannot write to {tmp_path}/data: No space left on device"
        assert str(caught.value) == words


def test_text_may_come_from_tfds(monkeypatch):
    monkeypatch.setattr(documents, "from_tfds", lambda *given, **named: named)
    settings = text.Settings(tfds="wikipedia/20230601.en", tfds_dir="folder")
    assert text.open_corpus(settings) == {
        "name": "wikipedia/20230601.en",
        "data_dir": "folder",
    }


def test_text_without_words(tmp_path):
    with pytest.raises(UserError, match="no words in the text for phase1/tra"):
        text.add_up(["phase1/train-00000-of-00002"] * 2, [3, 0])


def test_demos_settings_fit_the_recipes_of_a_tiny_bert():
    settings = text.demo_settings(seed=3)
    text.check(settings)
    assert settings.seed == 3
    assert settings.max_seq_length == (64, 128)
    assert text.demo_settings(vocab_file="x").vocab_size == 0
