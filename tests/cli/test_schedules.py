"""`tf-largebatch schedules`."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import image

from tf_largebatch.cli import schedules
from tf_largebatch.cli.main import main
from tf_largebatch.garden import recipes

FIGURE_1 = ["resnet50/lars_32k", "resnet50/nesterov_b_32k"]
FIGURE_2 = [
    f"bert_large/{chain}/phase2"
    for chain in ("original", "original_continuous")
]


@pytest.fixture(scope="module")
def panels():
    """The two panels of figure 1."""
    figure = schedules.draw([recipes.load(name) for name in FIGURE_1])
    return figure.axes


def test_it_draws_figure_1_unless_told_otherwise(tmp_path, capsys):
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    assert main(["schedules", f"--out={one}"]) == 0
    assert str(one) in capsys.readouterr().out
    names = ",".join(FIGURE_1)
    assert main(["schedules", f"--recipes={names}", f"--out={other}"]) == 0
    assert one.read_bytes() == other.read_bytes()
    picture = image.imread(one)
    assert picture.shape[0] > 800 and picture.shape[1] > 1000
    assert 0.01 < (picture[..., :3].min(-1) < 0.9).mean() < 0.5


def test_figure_2_is_the_released_schedule_beside_the_corrected_one(tmp_path):
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    assert main(["schedules", "--figure=2", f"--out={one}"]) == 0
    names = ",".join(FIGURE_2)
    assert main(["schedules", f"--recipes={names}", f"--out={other}"]) == 0
    assert one.read_bytes() == other.read_bytes()


def test_recipes_and_a_figure_are_not_both_drawn(tmp_path, capsys):
    flags = [
        f"--recipes={FIGURE_2[0]}",
        "--figure=2",
        f"--out={tmp_path}/a.png",
    ]
    assert main(["schedules", *flags]) == 2
    assert "give one of --recipes and --figure" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_in_figure_2_only_the_released_schedule_jumps():
    figure = schedules.draw([recipes.load(name) for name in FIGURE_2])
    released, corrected = (line.get_ydata() for line in figure.axes[0].lines)
    np.testing.assert_array_equal(released[:10_000], corrected[:10_000])
    drops = [-np.diff(rates).min() / 1e-4 for rates in (released, corrected)]
    # A tenth of the steps is warmup, so a tenth of the peak is lost.
    np.testing.assert_allclose(drops, [0.1 - 1e-4, 1 / 90_000], rtol=1e-2)
    assert (released[10_000:] < corrected[10_000:]).all()


def test_another_recipe_is_another_picture(tmp_path):
    pictures = []
    for name in ("table2/lars_power_1", "table2/lars_power_2"):
        out = tmp_path / "schedules.png"
        flags = [f"--recipes=resnet50/{name}", f"--out={out}"]
        assert main(["schedules", *flags]) == 0
        pictures.append(out.read_bytes())
    assert pictures[0] != pictures[1]


def test_above_are_the_rates_of_the_steps(panels):
    for line, name in zip(panels[0].lines, FIGURE_1, strict=True):
        np.testing.assert_array_equal(
            line.get_xdata(), np.arange(recipes.load(name).steps)
        )
        np.testing.assert_array_equal(
            line.get_ydata(), recipes.load(name).rates()
        )
        assert line.get_label().startswith(f"{name}: table 1, ")
    peaks = [line.get_ydata().max() for line in panels[0].lines]
    np.testing.assert_allclose(peaks, [29.0, 7.05], rtol=1e-3)


def test_below_they_differ_in_the_warmup_alone(panels):
    lars, nesterov = (line.get_ydata() for line in panels[1].lines)
    assert lars.max() == nesterov.max() == 1
    np.testing.assert_allclose(lars[707:], nesterov[707:], atol=2e-3)
    assert (lars[1:700] > nesterov[1:700]).all()
    assert (lars[353] - nesterov[353]) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--recipes=resnet50/lars_64k"], "did you mean resnet50/lars_32k?"),
        (["--recipes=bert_large/original"], "bert_large/original/phase1"),
        (["--figure=3"], "--figure=3"),
        (["--out=missing/figure.png"], "cannot write to missing/figure.png"),
        (["--out=figure.pdf"], "--out is figure.pdf; give a name that ends"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    flags, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["schedules", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tf-largebatch: error: ") and words in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_it_waits_for_no_tensorflow(tmp_path):
    code = f"""
import sys
from tf_largebatch.cli.main import main
main(["schedules", "--out={tmp_path / "figure.png"}"])
assert not {{"tensorflow", "keras", "official"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
