"""`tf-largebatch compare --table=bert`, run for real at a small size."""

import json

import pytest

from tf_largebatch.cli.main import main
from tf_largebatch.study import protocol
from tf_largebatch.workloads import tiny_bert


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder of a comparison of two rows.

    Without XLA, of a single layer and with few examples, to save time.
    """
    create = protocol.create

    def small(*arguments, **sizes):
        study = create(*arguments, **sizes)
        study["workload"]["encoder"]["num_layers"] = 1
        study["workload"]["examples"]["dupe_factor"] = 3
        study["workload"]["measured"] = 128
        study["table"]["rows"] = study["table"]["rows"][:3:2]
        return study

    folder = tmp_path_factory.mktemp("compare_bert") / "study"
    sizes = ["--trials=1", "--seeds=1", "--steps=8", "--workers=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_bert.Task, "jit_compile", False)
        patch.setattr(protocol, "create", small)
        assert main(["compare", "--table=bert", *sizes, f"--out={folder}"]) == 0
    return folder


def test_the_summary_is_of_bert(compared):
    summary = json.loads((compared / "summary.json").read_text())
    assert (summary["workload"], summary["table"]) == ("tiny_bert", "bert")
    assert summary["metric"] == {"name": "masked-LM loss", "direction": "min"}
    assert {"tf_keras", "tf-models-official"} < set(summary["versions"])
    names = [row["name"] for row in summary["rows"]]
    assert names == ["adam", "adam_uncorrected"]
    for row in summary["rows"]:
        assert set(row["best"]) == {"learning_rate", "beta_2", "warmup_power"}
        assert (row["tuning_trials"], row["seeds"]) == (1, 1)


def test_the_report_speaks_of_a_loss(compared):
    page = (compared / "report.html").read_text(encoding="utf-8")
    words = " ".join(page.split())
    for said in (
        "Does BERT need LAMB",
        "The lowest median test masked-LM loss is",
        "Without bias correction, each row tuned by itself: adam_uncorrected",
        "This is a small workload and not BERT-Large.",
        "Of every eight documents there are 6 for training",
    ):
        assert said in words
    for wrong in ("ImageNet", "accuracy", "Nesterov"):
        assert wrong not in words


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--workload=digits_resnet"], "no search spaces of table 'bert' for"),
        (["--steps=7"], "--steps is 7; give at least 8"),
        (["--rows=heavy_ball"], "which bert does not have; choose from adam"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, capsys, tmp_path):
    folder = tmp_path / "study"
    assert main(["compare", "--table=bert", *arguments, f"--out={folder}"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not folder.exists()


def test_tiny_bert_has_no_other_table(capsys):
    assert main(["compare", "--table=table4", "--workload=tiny_bert"]) == 2
    assert "no search spaces of table 'table4' for" in capsys.readouterr().err
