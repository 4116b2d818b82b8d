"""Text read as documents and sentences: files, formats, TFDS."""

import types

import pytest
import tensorflow_datasets as tfds

from tf_largebatch.bert import documents
from tf_largebatch.errors import UserError


class SmallTexts(tfds.core.GeneratorBasedBuilder):
    """A data set of TFDS that is built like its wikipedia."""

    VERSION = tfds.core.Version("1.0.0")
    TEXTS = (
        "One is odd. Two is even.\nThree is odd.",
        "",
        "Été\n\n\nFour is even. Is five?",
    )

    def _info(self):
        features = {"text": tfds.features.Text(), "title": tfds.features.Text()}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number, text in enumerate(self.TEXTS):
            yield number, {"text": text, "title": "title"}


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    SmallTexts(data_dir=folder).download_and_prepare()
    return str(folder)


@pytest.mark.parametrize(
    "paragraph, expected",
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("“One.” (Two.) 3 is it.", ["“One.”", "(Two.)", "3 is it."]),
        ("Mr. X and J. Smith, e.g. Bob, left.", None),
        ("It is 3.5 m, or U.S. feet, vs. Paris.", None),
        ("The file a.txt. is lower case", None),
        ("A line\nand\t another.\n  Next.", ["A line and another.", "Next."]),
        ("That ends it etc. Fine.", None),
        ("The problem. Fine.", ["The problem.", "Fine."]),
        ("  ", []),
    ],
)
def test_sentences(paragraph, expected):
    wanted = [paragraph] if expected is None else expected
    assert documents.sentences(paragraph) == wanted


TEXT = "\n First of one.\nSecond. Of one.\n \t\nThe first\nof two.\n\n\n"


@pytest.mark.parametrize(
    "text_format, expected",
    [
        (
            "sentences",
            [["First of one.", "Second. Of one."], ["The first", "of two."]],
        ),
        (
            "paragraphs",
            [["First of one.", "Second.", "Of one.", "The first of two."]],
        ),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_formats(tmp_path, text_format, expected, line_end):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, newline=line_end)
    corpus = documents.from_files(str(path), text_format)
    assert list(corpus.read()) == list(corpus.read()) == expected
    assert corpus.size == path.stat().st_size


def test_files_come_in_the_order_of_patterns_and_names(tmp_path):
    for name in "cab":
        (tmp_path / f"{name}.txt").write_text(f"Text {name}\n")
    (tmp_path / "empty.txt").touch()
    pattern = f"{tmp_path}/c*, {tmp_path}/[abe]*"
    found = list(documents.from_files(pattern).read())
    # A document ends with its file.
    assert found == [["Text c"], ["Text a"], ["Text b"]]
    whole = documents.from_files(f"{tmp_path}/*", "paragraphs")
    assert list(whole.read()) == [["Text a"], ["Text b"], ["Text c"]]


def test_text_that_is_not_utf_8_is_named_by_file_and_line(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("fine\n\xe9t\xe9 \u2028 as well\n".encode() + b"\xe9t\xe9")
    corpus = documents.from_files(str(path))
    with pytest.raises(UserError) as caught:
        list(corpus.read())
    words = f"the text is not UTF-8 at line 3, in {path}; convert it"
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "pattern, words",
    [
        ("{folder}/no-*", "no file matches '{folder}/no-*', in --input"),
        ("{folder}/a,", "no file matches ''"),
        ("{folder}", "{folder} is a folder, in --input; give its files"),
        ("what://a/*", "cannot read what://a/*: "),
        ("{folder}/lin?", "cannot read {folder}/link: "),
    ],
)
def test_patterns_that_lead_nowhere(tmp_path, pattern, words):
    (tmp_path / "a").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError) as caught:
        documents.from_files(pattern.format(folder=tmp_path))
    assert words.format(folder=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_document_of_tfds_is_an_example_with_text(tfds_folder):
    corpus = documents.from_tfds("small_texts", data_dir=tfds_folder)
    found = list(corpus.read())
    assert found == list(corpus.read())
    # TFDS mixes the examples when it stores them.
    assert sorted(found) == [
        ["One is odd.", "Two is even.", "Three is odd."],
        ["Été", "Four is even.", "Is five?"],
    ]
    assert 60 < corpus.size < 500


@pytest.mark.parametrize(
    "name, split",
    [("small_texts", "test"), ("small_text", "train"), ("glue", "train")],
)
def test_what_tfds_does_not_have(tfds_folder, name, split):
    with pytest.raises(UserError, match="TFDS has no prepared") as caught:
        documents.from_tfds(name, split, tfds_folder)
    for word in (name, split, tfds_folder, f"tfds build {name}"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "features, form, words",
    [
        (["image", "label"], "TFRECORD", "no text but image, label; give anot"),
        (["text"], "ARRAY_RECORD", "as array_record; prepare it with"),
    ],
)
def test_data_sets_of_tfds_that_are_of_another_kind(
    monkeypatch, features, form, words
):
    info = types.SimpleNamespace(
        splits={
            "train": types.SimpleNamespace(num_bytes=9, file_instructions=[])
        },
        features=dict.fromkeys(features),
        file_format=tfds.core.FileFormat[form],
    )
    builder = types.SimpleNamespace(info=info)
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: builder)
    with pytest.raises(UserError, match=words):
        documents.from_tfds("mnist")
