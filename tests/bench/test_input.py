"""The training input beside the Model Garden's, measured for a moment."""

import itertools

import pytest

from tf_largebatch.bench import input as bench
from tf_largebatch.errors import UserError

CONTESTS = {
    "ResNet-50": [bench.OURS, bench.BICUBIC, bench.BILINEAR],
    "BERT, 128 tokens": [bench.OURS, bench.GARDEN],
    "BERT, 512 tokens": [bench.OURS, bench.GARDEN],
}


@pytest.fixture(scope="module")
def figures(text):
    def make_text(folder, count):
        assert count == 6
        return text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "make_text", make_text)
        return bench.measure(1, batch=4, images=6, examples=6)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Patterns of BERT's examples, by their length."""
    return bench.make_text(tmp_path_factory.mktemp("text"), 1)


def is_ordered(numbers):
    return 0 < numbers["q1"] <= numbers["median"] <= numbers["q3"]


def test_every_pipeline_has_rates_and_a_ratio_to_ours(figures):
    assert (figures["batch"], figures["repeats"]) == (4, 1)
    assert {"tensorflow", "tf-models-official"} <= set(figures["versions"])
    for name, pipelines in CONTESTS.items():
        contest = figures["contests"][name]
        assert list(contest["rates"]) == pipelines
        assert list(contest["ratios"]) == pipelines[1:]
        for kind, clock in itertools.product(("rates", "ratios"), bench.CLOCKS):
            for found in contest[kind].values():
                assert is_ordered(found[clock])
    assert "500 x 375 pixels" in figures["contests"]["ResNet-50"]["files"]


def test_the_table_and_the_bars_say_what_was_found(figures):
    lines = bench.table(figures).splitlines()
    assert max(map(len, lines[1:])) <= 80
    names = [name for pipelines in CONTESTS.values() for name in pipelines]
    for name in names:
        same = [line for line in lines if line.startswith(f"  {name:34}")]
        assert len(same) == names.count(name) * len(bench.CLOCKS)
    bars = bench.bars(figures)
    assert [bar["label"] for bar in bars] == names
    for bar in bars:
        assert 0 < bar["low"] <= bar["value"] <= bar["high"]
        assert (bar["value"] == 100) >= bar["ours"]


def test_pictures_are_of_one_form(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "PICTURES", 2 * bench.FILES)
    contest = bench.resnet(bench.make_pictures(tmp_path, 4), 4, 4)
    specs = [
        pipeline().element_spec[0] for pipeline in contest.pipelines.values()
    ]
    assert len(specs) == 3 and len({repr(spec) for spec in specs}) == 1


@pytest.mark.parametrize("length", bench.PREDICTIONS)
def test_an_epoch_of_tokens_is_the_same_examples(text, length):
    contest = bench.bert(text[length], length, 1, 1)
    count = sum(bench.records.open_files(text[length]).counts)
    ours, theirs = (pipeline() for pipeline in contest.pipelines.values())
    for name, spec in theirs.element_spec.items():
        assert ours.element_spec[name].dtype == spec.dtype
    # The Model Garden's next epoch begins before the last one is at its end.
    found, known = (
        {
            each["input_word_ids"].tobytes()
            for each in dataset.take(taken).as_numpy_iterator()
        }
        for dataset, taken in ((ours, count), (theirs, 8))
    )
    assert known <= found and len(found) == count


def test_ratios_are_of_the_same_round():
    contest = bench.Contest("BERT", "examples", "some", 1, {})
    ours = [{"wall": rate, "cpu": rate} for rate in (3.0, 6.0, 8.0)]
    theirs = [{"wall": rate, "cpu": 1.0} for rate in (1.0, 3.0, 8.0)]
    found = bench.describe(contest, {bench.OURS: ours, bench.GARDEN: theirs})
    ratios = found["ratios"][bench.GARDEN]
    assert ratios["wall"]["median"] == 2.0 and ratios["cpu"]["median"] == 6.0
    assert found["rates"][bench.OURS]["wall"]["median"] == 6.0


def test_files_that_there_are_not_are_an_error():
    with pytest.raises(UserError, match="no file matches '/no/such") as error:
        bench.measure(1, input_path="/no/such/train-*")
    assert "\n" not in str(error.value)
