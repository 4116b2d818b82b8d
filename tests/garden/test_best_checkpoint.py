"""The best checkpoint of a run is kept, and is whole by itself."""

import json
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch import checkpoints
from tf_largebatch.errors import UserError
from tf_largebatch.garden import export, settings, train
from tf_largebatch.garden.controller import BestCheckpoint, NoSuchFigureError

FOLDER = "best"
ADAM = "resnet50/table4/adam_1e-8"  # Whose small run keeps it.


def asked_for(metric="accuracy", **more):
    """Returns a trainer's settings that keep the best checkpoint."""
    return {
        "best_checkpoint_export_subdir": FOLDER,
        "best_checkpoint_eval_metric": metric,
        **more,
    }


@pytest.fixture
def keep(small, tmp_path):
    """A function that begins to keep the best; returns what notes figures."""
    config = small(
        trainer=asked_for("loss", best_checkpoint_metric_comp="lower")
    )

    def begin(writes=True):
        step = tf.Variable(0)
        checkpoint = tf.train.Checkpoint(step=step)
        best = BestCheckpoint.of(config, str(tmp_path), writes)

        def note(now, loss):
            step.assign(now)
            figures = {"loss": loss, "more": {"a": 1}, "picture": np.ones(3)}
            return best.maybe_export_checkpoint(checkpoint, figures, now)

        return note

    return begin


def kept(folder):
    """Returns the step of the checkpoint that a folder has."""
    (path,) = folder.glob("best_ckpt-*.index")
    reader = tf.train.load_checkpoint(str(path.with_suffix("")))
    return int(reader.get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE"))


def test_it_is_that_of_the_best_evaluation_also_of_an_earlier_start(
    keep, tmp_path
):
    note = keep()
    assert [note(1, 0.5), note(2, 0.7), note(3, 0.4)] == [True, False, True]
    note = keep()
    assert [note(4, 0.45), kept(tmp_path / FOLDER)] == [False, 3]
    assert [note(5, 0.3), kept(tmp_path / FOLDER)] == [True, 5]
    info = json.loads((tmp_path / FOLDER / "info.json").read_text())
    assert info == {"loss": pytest.approx(0.3), "best_ckpt_global_step": 5}


def test_what_was_killed_while_it_was_saved_is_saved_again(keep, tmp_path):
    keep()(1, 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BestCheckpoint, "export_best_eval_metric", killed)
        with pytest.raises(KeyboardInterrupt):
            keep()(2, 0.4)
    assert keep()(2, 0.4)
    assert kept(tmp_path / FOLDER) == 2


def killed(*arguments):
    raise KeyboardInterrupt


def test_a_folder_that_cannot_be_written_is_one_line(keep, tmp_path):
    note = keep()
    (tmp_path / FOLDER).rmdir()
    (tmp_path / FOLDER).write_text("no folder")
    with pytest.raises(UserError, match=f"cannot write to {tmp_path}/best: "):
        note(1, 0.5)


def test_of_several_workers_one_writes_and_all_agree(keep, tmp_path):
    keep()(1, 0.5)
    before = {path.name for path in (tmp_path / FOLDER).iterdir()}
    other = keep(writes=False)
    assert [other(2, 0.6), other(3, 0.4)] == [False, True]
    assert {path.name for path in (tmp_path / FOLDER).iterdir()} == before
    assert kept(tmp_path / FOLDER) == 1


def test_it_is_not_kept_unless_asked_for(small, tmp_path):
    assert BestCheckpoint.of(small(), str(tmp_path), True) is None
    assert not list(tmp_path.iterdir())


def test_it_can_be_exported_wherever_it_is(trained, small, tmp_path):
    run, elsewhere = trained(ADAM), tmp_path / "elsewhere"
    figures = json.loads((run / "figures.json").read_text())
    assert figures["best_accuracy"] == figures["accuracy"]
    shutil.copytree(run / FOLDER, elsewhere)
    checkpoint = export.find(str(elsewhere))
    assert checkpoint.startswith(f"{elsewhere}/")
    config = settings.of_run(checkpoint)
    assert config.task.as_dict() == small(ADAM).task.as_dict()
    export.export(config, checkpoint, str(tmp_path / "export"))
    saved = tf.saved_model.load(str(tmp_path / "export"))
    assert set(saved.signatures) == {"serving_default", "image_tensor"}


def test_a_metric_that_no_evaluation_has_is_named_and_loses_nothing(
    small, tmp_path
):
    config = small(trainer=asked_for("acuracy", checkpoint_interval=100))
    with pytest.raises(UserError) as caught:
        train.run(config, "train_and_eval", str(tmp_path))
    message = str(caught.value)
    assert message == (
        "best_checkpoint_eval_metric is 'acuracy', in trainer, but an "
        "evaluation has no such figure; choose one of accuracy, examples, "
        "top_5_accuracy, validation_loss"
    )
    steps = config.trainer.train_steps
    assert checkpoints.newest(str(tmp_path)) == str(tmp_path / f"ckpt-{steps}")


def test_one_of_several_workers_does_not_save_at_a_wrong_setting(monkeypatch):
    monkeypatch.setattr(train, "is_one_of_several", lambda strategy: True)
    controller = types.SimpleNamespace(strategy=None)
    with pytest.raises(UserError, match="wrong"):
        with train.saved_when_stopped(controller):
            raise NoSuchFigureError("wrong")
