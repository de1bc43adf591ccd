"""A checkpoint: when one is written, which one a training goes on from, and what is refused."""

import errno
import os
import pickle

import pytest
import torch
from training.line import Noisy, kill, run, saved_steps

from diffusion2gan.errors import UserError
from diffusion2gan.training import checkpoint, loop
from diffusion2gan.training.loop import Schedule

pytestmark = pytest.mark.usefixtures("clock")


@pytest.mark.parametrize("change", [{"settings": {"width": 4}}, {"seed": 4}, {"schedule": Schedule(30, warmup=3)}])
def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path, change):
    run(Noisy(), tmp_path)
    name = {
        "settings": "width was 3 and is 4",
        "seed": "seed was 3 and is 4",
        "schedule": r"\(decay was 'cosine' and is 'constant'; iterations was 20 and is 30\): delete",
    }
    with pytest.raises(UserError, match=name[next(iter(change))]):
        run(Noisy(), tmp_path, **change)


def test_checkpoints_are_written_by_the_clock_and_the_last_two_are_kept(tmp_path, clock):
    training, saved = Noisy(), []
    step = training.step

    def looking(number):
        saved.append(saved_steps(tmp_path))
        clock.minutes += 9 * (number == 6)  # a slow step
        return step(number)

    training.step = looking
    _, history = run(training, tmp_path, schedule=Schedule(10), checkpoint_minutes=3, log_every=3)
    assert history["step"].tolist() == [0, 3, 6, 9]
    assert saved == [[]] * 3 + [[3]] * 3 + [[3, 6]] + [[6, 7]] * 3
    assert saved_steps(tmp_path) == [7, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000007", "step-00000010"]


def test_a_checkpoint_that_was_not_finished_is_not_used_and_goes(tmp_path, monkeypatch):
    def replaced(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "replace", replaced)
        with pytest.raises(KeyboardInterrupt):
            run(Noisy(), tmp_path)
    assert saved_steps(tmp_path) == [] and len(list(tmp_path.iterdir())) == 1
    torch.testing.assert_close(run(Noisy(), tmp_path)[0], run(Noisy(), tmp_path / "whole")[0], rtol=0, atol=0)
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_checkpoint_is_one_line_and_the_one_before_goes_on(tmp_path):
    expected, _ = run(Noisy(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Noisy({13: kill}), tmp_path)
    assert saved_steps(tmp_path) == [8, 12]
    newest = tmp_path / "step-00000012"
    for name in ("__0_0.distcp", ".metadata", "record.json"):
        whole = (newest / name).read_bytes()
        (newest / name).write_bytes(whole[:-100])
        with pytest.raises(
            UserError, match=f"^the checkpoint {newest} cannot be read .*: delete it to resume"
        ) as error:
            run(Noisy(), tmp_path)
        assert "\n" not in str(error.value)
        (newest / name).write_bytes(whole)
    newest.rename(tmp_path / "away")
    torch.testing.assert_close(run(Noisy(), tmp_path)[0], expected, rtol=0, atol=0)


def test_a_disk_without_fsync_keeps_checkpoints(tmp_path, monkeypatch):
    def lacking(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(checkpoint.os, "fsync", lacking)
    with pytest.raises(KeyboardInterrupt):
        run(Noisy({13: kill}), tmp_path)
    assert saved_steps(tmp_path) == [8, 12]


def test_a_full_disk_is_one_line_and_the_checkpoint_before_stays(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    with pytest.raises(KeyboardInterrupt):
        run(Noisy({6: kill}), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.dcp.FileSystemWriter, "write_data", full)
        with pytest.raises(UserError, match="00008 cannot be written .*No space left on device.*resume$") as error:
            run(Noisy(), tmp_path)
    assert "\n" not in str(error.value)
    assert saved_steps(tmp_path) == [4]


def test_a_checkpoint_does_not_execute_what_it_names(tmp_path):
    class Malice:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    run(Noisy(), tmp_path)
    (tmp_path / "step-00000020/.metadata").write_bytes(pickle.dumps(Malice()))
    with pytest.raises(UserError, match="mkdir, which data does not need"):
        run(Noisy(), tmp_path)
    assert not (tmp_path / "executed").exists()


def test_the_checkpoint_of_an_earlier_version_is_refused(tmp_path):
    torch.save({"settings": {}, "state": {}}, tmp_path / "state.pt")
    with pytest.raises(UserError, match="state.pt is the checkpoint of an earlier version: delete .* to start anew$"):
        run(Noisy(), tmp_path)


def test_a_weight_without_gradient_has_no_optimizer_state_after_resuming_either(tmp_path):
    def idle(at=None):
        training = Noisy(at)
        training.modules["line"].register_parameter("idle", torch.nn.Parameter(torch.ones(3, 1)))
        training.optimizers["line"].add_param_group({"params": [training.modules["line"].idle]})
        return training

    with pytest.raises(KeyboardInterrupt):
        run(idle({6: kill}), tmp_path)
    resumed = idle()
    run(resumed, tmp_path)
    states = resumed.optimizers["line"].state
    assert set(states) == {resumed.modules["line"].weight, resumed.modules["line"].bias}
    assert all(set(state) == {"step", "exp_avg", "exp_avg_sq"} and state["step"] == 20 for state in states.values())


def scored(step: int) -> float:
    """The error that a training shows after a step: the smallest after step 4."""
    return abs(step - 4.0)


@pytest.mark.parametrize("record", ["[]", "null", "3", '{"settings": [1], "step": 4, "history": [1]}'])
def test_a_record_of_another_shape_is_one_line(tmp_path, clock, record):
    run(Noisy(), tmp_path, schedule=Schedule(8))
    (tmp_path / "step-00000008" / checkpoint.RECORD).write_text(record)
    (tmp_path / "step-best").mkdir()  # somebody's copy
    with pytest.raises(UserError, match="the checkpoint .*step-00000008 cannot be read"):
        run(Noisy(), tmp_path, schedule=Schedule(8))


def test_the_best_checkpoint_is_kept_beside_the_last_two(tmp_path, clock):
    def show(step):
        return {"held_out_error": scored(step)}

    run(Noisy(), tmp_path, schedule=Schedule(12), checkpoint_minutes=2, show=show, show_every=1)
    assert saved_steps(tmp_path) == [4, 10, 12]
    damaged = tmp_path / "step-00000004" / checkpoint.RECORD
    damaged.write_text(damaged.read_text()[:20])
    checkpoint._remove_others(tmp_path)
    assert saved_steps(tmp_path) == [10, 12]


def test_a_kept_step_can_be_restored_with_its_average_and_no_other(tmp_path, clock):
    options = {"schedule": Schedule(7), "ema_decay": 0.5}
    averages = {}
    for steps in (4, 6):
        training = Noisy()
        run(training, tmp_path / str(steps), **options | {"schedule": Schedule(steps)})
        averages[steps] = {name: value.clone() for name, value in training.modules["line"].state_dict().items()}
    run(Noisy(), tmp_path / "whole", **options, checkpoint_minutes=2)
    assert saved_steps(tmp_path / "whole") == [4, 6]
    restored = Noisy()
    for steps, average in averages.items():
        loop.restore(restored, Schedule(7), tmp_path / "whole", {"width": 3}, seed=3, step=steps, ema_decay=0.5)
        torch.testing.assert_close(dict(restored.modules["line"].state_dict()), average, rtol=0, atol=0)
    with pytest.raises(UserError, match="whole keeps no checkpoint of step 5: choose one of 4, 6$"):
        loop.restore(restored, Schedule(7), tmp_path / "whole", {"width": 3}, seed=3, step=5, ema_decay=0.5)
    with pytest.raises(UserError, match=r"step 5: choose one of \(there are none\)$"):
        loop.restore(restored, Schedule(7), tmp_path / "empty", {"width": 3}, seed=3, step=5)
    with pytest.raises(UserError, match="width was 3 and is 4"):
        loop.restore(restored, Schedule(7), tmp_path / "whole", {"width": 4}, seed=3, step=6, ema_decay=0.5)
