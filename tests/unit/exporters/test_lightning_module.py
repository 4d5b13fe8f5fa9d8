import csv
import json
import runpy
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from eesearch.core.policy import Scoring
from eesearch.exporters.apart import modules_apart
from eesearch.exporters.lightning_module import reload_lightning, write_lightning
from eesearch.exporters.torch_folder import reload_torch
from eesearch.solve.family import Effort, Family
from eesearch.solve.files import solve_files
from eesearch.training.data import Calibration, Split, digits, make_dataset
from eesearch.training.losses import joint_loss

pytest.importorskip("lightning")
pytest.importorskip("jsonargparse")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*"),  # Lightning's, with torch 2.13
    pytest.mark.filterwarnings("ignore:The number of training batches:"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed from.*"),
]


@pytest.fixture
def exported(make_chosen, tmp_path):
    """`(options of make_chosen) -> (chosen, folder)`."""

    def export(*args, **options):
        chosen, out = make_chosen(*args, **options), tmp_path / "out"
        out.mkdir()
        write_lightning(chosen, out)
        return chosen, out

    return export


def module_of(out, **changes):
    """The LightningModule and the data module's class."""
    fields = yaml.safe_load((out / "config.yaml").read_text())["model"]
    with modules_apart(out):
        import data
        import lit

        return lit.EarlyExits(**fields | changes), data


def metrics(out, version):
    """The rows that Lightning logged."""
    text = (out / "logs" / "lightning_logs" / f"version_{version}" / "metrics.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


class TestNetwork:
    @pytest.mark.parametrize(
        "options", [{}, {"criterion": "patience"}, {"answer": "mean"}, {"asks": True}, {"strategy": "separate"}]
    )
    def test_answers_and_exits_are_those_of_the_table_and_of_the_torch_format(self, exported, options):
        chosen, out = exported(**options)
        answers, exits = reload_lightning(out)(chosen.samples)
        own = chosen.answers(chosen.samples)
        assert answers.tolist() == own.answer.tolist()
        assert exits.tolist() == own.exit.tolist()
        assert len(set(exits)) >= 2
        torch_answers, torch_exits = reload_torch(out)(chosen.samples)
        assert (torch_answers.tolist(), torch_exits.tolist()) == (answers.tolist(), exits.tolist())

    def test_nothing_of_the_folder_stays_imported(self, exported):
        _, out = exported()
        before = set(sys.modules), list(sys.path)
        reload_lightning(out)
        assert not {"lit", "model", "data"} & (set(sys.modules) - before[0])
        assert sys.path == before[1]
        assert not (out / "__pycache__").exists()

    def test_the_loss_on_a_batch_is_that_of_the_network_with_exits(self, exported, small_net):
        chosen, out = exported()
        net, x = small_net
        module, _ = module_of(out)
        batch, labels = torch.from_numpy(x), torch.arange(len(x)) % 10
        with torch.no_grad():
            expected = joint_loss(chosen.losses[:-1])(net(batch), labels)
            assert module.eval().loss(module(batch), labels).item() == pytest.approx(expected.item(), rel=1e-6)

    @pytest.mark.parametrize("field", ["alphas", "thresholds"])
    def test_there_is_one_number_per_stop(self, exported, field):
        _, out = exported()
        with pytest.raises(ValueError, match=f"{field}: got 2 numbers"):
            module_of(out, **{field: [0.5, 0.5]})


class TestTraining:
    @pytest.mark.parametrize("strategy", ["joint", "separate"])
    def test_it_trains_as_the_loop_does(self, exported, loop_trained, strategy):
        chosen, out = exported(strategy)
        batches, expected = loop_trained(chosen)
        module, _ = module_of(out)
        module.trainer = SimpleNamespace(estimated_stepping_batches=len(batches), world_size=1)
        module.log = lambda *args, **options: None
        configured = module.configure_optimizers()
        optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
        for batch in batches:
            optimizer.zero_grad()
            module.training_step(batch).backward()
            optimizer.step()
            scheduler.step()
        with torch.no_grad():
            logits = module.eval()(torch.from_numpy(chosen.samples))
        for own, theirs in zip(logits, expected, strict=True):
            assert torch.allclose(own, theirs, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(logits[0], chosen.stages[0].run((torch.from_numpy(chosen.samples),))[1], atol=1e-2)

    def test_separate_heads_leave_the_backbone_alone(self, exported):
        _, out = exported("separate")
        module, _ = module_of(out)
        learns = {name.split(".")[3] for name, p in module.named_parameters() if p.requires_grad}
        assert learns == {"head_0", "head_1", "head_5"}
        module.train()
        training = {name for name, layer in module.network.named_modules() if layer.training}
        assert all(".head_" in name for name in training)
        assert "stages.1.head_1" in training

    @pytest.mark.slow
    def test_the_command_line_trains_writes_a_table_and_takes_thresholds(self, exported, tmp_path, monkeypatch):
        chosen, out = exported()
        arrays = digits()
        few = {name: values[:200] for name, values in arrays.items() if name.startswith(("x_", "y_"))}
        np.savez(tmp_path / "my.npz", **few)
        monkeypatch.chdir(out)
        monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning's

        def main(verb, *options):
            options = ("--config", "config.yaml", "--data.path", str(tmp_path / "my.npz"), *options)
            quiet = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false")
            logs = ("--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", "logs")
            monkeypatch.setattr(sys, "argv", ["main.py", verb, *options, *quiet, *logs, "--trainer.accelerator", "cpu"])
            with modules_apart(out):
                runpy.run_path("main.py", run_name="__main__")

        main("fit", "--trainer.max_epochs", "2", "--data.augment", "null", "--trainer.log_every_n_steps", "1")
        rows = metrics(out, 0)
        losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
        assert np.mean(losses[-3:]) < np.mean(losses[:3])
        assert {"val/accuracy", "val/mean_exit", f"val/accuracy/{chosen.exits[0]}"} <= rows[0].keys()
        (checkpoint,) = out.rglob("*.ckpt")
        with modules_apart(out):
            import lit

            again = lit.EarlyExits.load_from_checkpoint(checkpoint, map_location="cpu")
        changed = again.network.stages[0].head_1.weight
        assert not torch.equal(changed, chosen.stages[0].head.body[1].weight)

        main("predict", "--ckpt_path", str(checkpoint))
        found = solve_files(
            out / "table.npz", out / "costs.json", scoring=Scoring(), family=Family(3), effort=Effort("exact")
        )
        assert found.front.backbone.samples == 80
        assert found.front.points[0].costs["macs"].mean == pytest.approx(100.0)

        main("test", "--ckpt_path", str(checkpoint), "--model.thresholds", "[.inf, -.inf, -.inf]")
        (row,) = metrics(out, 2)
        assert float(row["test/mean_exit"]) == 1.0
        assert float(row["test/accuracy"]) == float(row[f"test/accuracy/{chosen.exits[1]}"])


class TestTable:
    def test_a_stop_s_scores_are_those_of_the_network_whoever_has_left_before(self, exported):
        chosen, out = exported(asks=True)
        module, _ = module_of(out)
        labels = torch.arange(len(chosen.samples)) % 10
        kept = list(module.network.thresholds)
        scores, correct = module.predict_step([torch.from_numpy(chosen.samples), labels])
        assert np.allclose(scores.numpy(), chosen.scores(chosen.samples), atol=1e-6)
        assert module.network.thresholds == kept
        assert correct.shape == scores.shape == (3, len(labels))

    def test_the_last_resort_is_a_row_that_is_always_right(self, exported, tmp_path):
        _, out = exported(asks=True)
        with modules_apart(out):
            import lit

            writer = lit.TableWriter(str(tmp_path / "table.npz"))
        batches = [(torch.rand(3, 5), torch.zeros(3, 5, dtype=torch.bool)) for _ in range(2)]
        writer.write_on_epoch_end(None, None, batches, None)
        table, costs = tmp_path / "table.npz", out / "costs.json"
        solved = solve_files(table, costs, scoring=Scoring(), family=Family(4), effort=Effort("exact"))
        assert solved.front.points[-1].accuracy == 1.0
        with np.load(table) as arrays:
            assert arrays["scores"].shape == (4, 10)
            assert arrays["correct"].tolist() == [[False] * 10] * 3 + [[True] * 10]
            assert arrays["cuts"].tolist() == ["0", "1", "2", "output"]
        assert np.array(json.loads((out / "costs.json").read_text())["step"]).shape == (5, 4)


class TestData:
    def test_the_calibration_split_is_the_study_s(self, exported, tmp_path):
        _, out = exported()
        arrays = digits()
        np.savez(tmp_path / "my.npz", **{name: values for name, values in arrays.items() if name != "class_names"})
        fields = yaml.safe_load((out / "config.yaml").read_text())["data"]
        _, data = module_of(out)
        module = data.Arrays(path=str(tmp_path / "my.npz"), **fields)
        module.setup("fit")
        expected = make_dataset(arrays, calibration=Calibration(origin="train", share=0.4))
        for name in ("train", "cal", "test"):
            x, y = module.splits[name].tensors
            assert torch.equal(x, torch.from_numpy(getattr(expected, name).x))
            assert torch.equal(y, torch.from_numpy(getattr(expected, name).y))

    @pytest.mark.parametrize("given", [False, True])
    def test_what_the_study_has_set_aside_to_certify_on_is_not_loaded(self, make_chosen, tmp_path, given):
        chosen, arrays = make_chosen(), digits()
        fields = chosen.config.study["data"] | {"certification": 0.5}
        config = chosen.config.model_copy(update={"study": chosen.config.study | {"data": fields}})
        if given:
            whole = make_dataset(arrays)
            arrays |= {f"{a}_{s.name}": getattr(s, a) for s in (whole.train, whole.cal) for a in ("x", "y")}
        write_lightning(replace(chosen, config=config), tmp_path)
        np.savez(tmp_path / "my.npz", **{name: values for name, values in arrays.items() if name != "class_names"})
        settings = yaml.safe_load((tmp_path / "config.yaml").read_text())["data"]
        module = module_of(tmp_path)[1].Arrays(path=str(tmp_path / "my.npz"), **settings)
        module.setup("fit")
        expected = make_dataset(arrays, calibration=Calibration(origin="train", share=0.4), certification=0.5)
        assert set(module.splits) == {"train", "cal", "test"}
        for name, split in module.splits.items():
            assert Split(name, *(tensor.numpy() for tensor in split.tensors)).key == getattr(expected, name).key
        assert "are left out (`certification_share`)" in (tmp_path / "README.md").read_text()

    def test_images_are_mirrored_and_shifted_by_as_much_as_in_the_loop(self, exported):
        _, out = exported()
        _, data = module_of(out)
        image = torch.zeros(200, 1, 8, 8, dtype=torch.uint8)
        image[:, 0, 4, 2] = 1
        torch.manual_seed(0)
        assert set(data.transform(image, ["flip"]).nonzero()[:, 3].tolist()) == {2, 5}
        found = data.transform(image, ["crop"]).nonzero()
        assert set(found[:, 2].tolist()) == set(range(8))  # 4 - 4 ... 4 + 3; one further is outside
        assert set(found[:, 3].tolist()) == set(range(7))  # 2 + 4 at most

    @pytest.mark.parametrize(("given", "kept"), [("u1", "u1"), ("i2", "i8"), ("f8", "f4"), ("?", "u1")])
    def test_samples_come_in_the_type_that_the_network_was_trained_on(self, exported, given, kept):
        _, out = exported()
        _, data = module_of(out)
        assert data.in_network_type(np.ones((2, 3), given)).dtype == np.dtype(kept)
