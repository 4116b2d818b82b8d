"""When a run is evaluated, saved and stopped, without a network."""

import types

import orbit
import pytest
import tensorflow as tf

from tf_largebatch.garden.controller import Controller


class Counting(orbit.AbstractTrainer, orbit.AbstractEvaluator):
    """Trains nothing; its accuracy is a hundredth of the step."""

    def __init__(self, target, step):
        trainer = types.SimpleNamespace(target_accuracy=target)
        self.config = types.SimpleNamespace(trainer=trainer)
        self.task = types.SimpleNamespace(accuracy="accuracy")
        self.global_step = tf.Variable(step, dtype=tf.int64)
        self.evaluated = []

    def train(self, num_steps):
        self.global_step.assign_add(tf.cast(num_steps, tf.int64))
        return {"training_loss": 1.0}

    def evaluate(self, num_steps):
        del num_steps
        self.evaluated.append(int(self.global_step.numpy()))
        return {"accuracy": tf.constant(self.evaluated[-1] / 100, tf.float32)}


@pytest.fixture
def run(tmp_path):
    """A function that trains up to step 30; returns what came of it."""

    def train_and_evaluate(target=0.0, step=0, interval=8, steps=30):
        counting = Counting(target, step)
        manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(step=counting.global_step),
            str(tmp_path),
            max_to_keep=None,
            step_counter=counting.global_step,
            checkpoint_interval=20,
        )
        controller = Controller(
            trainer=counting,
            evaluator=counting,
            global_step=counting.global_step,
            steps_per_loop=5,
            checkpoint_manager=manager,
        )
        output = controller.train_and_evaluate(steps, -1, interval)
        saved = [path.rpartition("-")[2] for path in manager.checkpoints]
        return counting.evaluated, output, [int(each) for each in saved]

    return train_and_evaluate


def test_it_evaluates_at_multiples_and_at_the_end(run):
    evaluated, output, saved = run()
    assert evaluated == [8, 16, 24, 30]
    assert output["accuracy"] == pytest.approx(0.3)
    assert saved == [20, 30]


def test_checkpoints_fall_on_multiples_after_a_stop_too(run):
    assert run(steps=13)[2] == [13]
    assert run()[2] == [13, 20, 30]


def test_without_an_interval_it_evaluates_at_the_end(run):
    assert run(interval=None)[0] == [30]


@pytest.mark.parametrize(
    "target, evaluated",
    [
        (0.16, [8, 16]),  # Equal to the accuracy as float32 has it.
        (0.161, [8, 16, 24]),
        (0.9, [8, 16, 24, 30]),
    ],
)
def test_it_stops_at_the_first_evaluation_that_reaches_the_target(
    target, evaluated, run
):
    found, _, saved = run(target)
    assert found == evaluated
    assert saved[-1] == evaluated[-1]


def test_a_resumed_run_evaluates_at_the_same_steps(run, tmp_path):
    run(steps=13)
    evaluated, _, saved = run()
    assert evaluated == [16, 24, 30]
    assert saved[-1] == 30


def test_an_evaluation_that_may_have_been_missed_is_made_up_for(run):
    run(steps=16)
    assert run()[0] == [16, 24, 30]


def test_a_finished_run_is_evaluated_and_not_trained(run):
    run()
    evaluated, output, saved = run()
    assert evaluated == [30]
    assert output["accuracy"] == pytest.approx(0.3)
    assert saved == [20, 30]


def test_a_run_that_reached_its_target_is_not_trained_further(run):
    run(target=0.16)
    assert run(target=0.16)[0] == [16]
