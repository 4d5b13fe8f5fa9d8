import json
import re
import sys
from dataclasses import replace
from math import inf

import numpy as np
import pytest
import torch

from eesearch.core.policy import Policy, Scoring, Stop
from eesearch.exporters.hf_folder import reload_hf, task_of, write_hf
from eesearch.nets.exitnet import ExitNet
from eesearch.nets.heads import build_head
from eesearch.nets.split import split
from eesearch.solve.family import Effort, Family
from eesearch.solve.files import solve_files
from eesearch.training.losses import joint_loss

transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True, scope="module")
def alone(tmp_path_factory):
    """No network; what transformers copies of our code goes to a folder of the tests."""
    from transformers import dynamic_module_utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        patch.setattr(sys, "path", list(sys.path))
        transformers.utils.logging.disable_progress_bar()
        yield
        transformers.utils.logging.enable_progress_bar()
        for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
            del sys.modules[name]


@pytest.fixture
def exported(make_chosen, tmp_path):
    """`(options of make_chosen) -> (chosen, folder)`."""

    def export(*args, **options):
        # transformers keeps what it has imported by the name of the folder
        chosen, out = make_chosen(*args, **options), tmp_path / f"out-{tmp_path.name}"
        out.mkdir()
        write_hf(chosen, out)
        return chosen, out

    return export


def load(folder, auto="AutoModel", **options):
    return getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True, **options)


class TestModel:
    @pytest.mark.parametrize(
        "options", [{}, {"criterion": "patience"}, {"answer": "mean"}, {"asks": True}, {"strategy": "separate"}]
    )
    def test_answers_and_exits_are_those_of_the_table(self, exported, options):
        chosen, out = exported(**options)
        own = chosen.answers(chosen.samples)
        answers, exits = reload_hf(out)(chosen.samples)
        assert answers.tolist() == own.answer.tolist()
        assert exits.tolist() == own.exit.tolist()
        assert len(set(exits)) >= 2

    @pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForImageClassification"])
    def test_the_auto_classes_load_it(self, exported, auto):
        chosen, out = exported(answer="mean")
        said = load(out, auto).predict(torch.from_numpy(chosen.samples))
        own = chosen.answers(chosen.samples)
        assert said.answer.tolist() == own.answer.tolist()
        assert said.exit.tolist() == own.exit.tolist()
        assert np.allclose(said.score.numpy(), own.score, atol=1e-6)

    def test_its_code_is_not_run_without_being_trusted(self, exported):
        _, out = exported()
        with pytest.raises(ValueError, match="trust_remote_code"):
            transformers.AutoModel.from_pretrained(out, trust_remote_code=False)

    def test_all_stops_answer_and_the_loss_is_that_of_the_network_with_exits(self, exported, small_net):
        chosen, out = exported()
        net, x = small_net
        model, batch, labels = load(out), torch.from_numpy(x), torch.arange(len(x)) % 10
        with torch.no_grad():
            said, expected = model(pixel_values=batch, labels=labels), net(batch)
        assert all(torch.equal(a, b) for a, b in zip(said.exit_logits, expected, strict=True))
        assert torch.equal(said.logits, expected[-1])
        assert said.loss.item() == pytest.approx(joint_loss(chosen.losses[:-1])(expected, labels).item(), rel=1e-6)
        assert model(batch).loss is None
        assert isinstance(model(batch, return_dict=False), tuple)

    def test_labels_have_names(self, exported):
        chosen, out = exported()
        config = load(out).config
        assert config.id2label == dict(enumerate(chosen.class_names))
        assert config.num_labels == 10

    def test_the_folder_is_read_by_nobody_s_pickle_and_explains_itself(self, exported):
        chosen, out = exported()
        names = {file.name for file in out.iterdir()}
        assert {"config.json", "eesearch.json", "model.safetensors", "model.py", "README.md", "costs.json"} <= names
        assert json.loads((out / "config.json").read_text())["thresholds"][-1] == "-inf"
        card = (out / "README.md").read_text()
        assert "trust_remote_code" in card
        assert all(name in card for name in chosen.exits)


class TestTraining:
    @pytest.mark.parametrize("strategy", ["joint", "separate"])
    def test_trainer_trains_what_learns_and_saved_models_read_back(self, exported, tmp_path, strategy):
        pytest.importorskip("accelerate")
        chosen, out = exported(strategy)
        model = load(out, "AutoModelForImageClassification")
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        data = [{"pixel_values": x, "labels": i % 10} for i, x in enumerate(chosen.samples)]
        arguments = transformers.TrainingArguments(
            str(tmp_path / "trainer"), num_train_epochs=8, per_device_train_batch_size=16, learning_rate=0.02,
            logging_steps=4, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        trainer = transformers.Trainer(model, arguments, train_dataset=data, eval_dataset=data)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        assert float(losses[-1]) < float(losses[0])
        assert trainer.predict(data).predictions.shape == (len(data), 10)
        changed = {name.split(".")[3] for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}
        assert "head_1" in changed
        assert all(name.startswith("head_") for name in changed) == (strategy == "separate")

        model.thresholds = [0.0, 0.5, -inf]
        model.save_pretrained(tmp_path / "trained")
        again, x = load(tmp_path / "trained"), torch.from_numpy(chosen.samples)
        assert again.thresholds == [0.0, 0.5, -inf]
        assert all(a.equal(b) for a, b in zip(again.predict(x), model.predict(x), strict=True))
        assert set(again.predict(x).exit.tolist()) == {0}

    @pytest.mark.parametrize("asks", [False, True])
    def test_the_readme_s_code_runs_and_its_table_is_solved(self, exported, tmp_path, monkeypatch, asks):
        pytest.importorskip("accelerate")
        chosen, out = exported(asks=asks)
        x, y = chosen.samples, np.arange(len(chosen.samples)) % 10
        names = {"x": torch.from_numpy(x), "x_train": x, "y_train": y}
        names |= {"x_cal": torch.from_numpy(x), "y_cal": torch.from_numpy(y)}
        monkeypatch.chdir(tmp_path)
        blocks = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.S)
        exec("\n".join(blocks).replace("THIS_FOLDER", str(out)).replace('"out",', '"trainer", use_cpu=True,'), names)
        found = solve_files(
            tmp_path / "table.npz", out / "costs.json", scoring=Scoring(), family=Family(4), effort=Effort("exact")
        )
        every = np.load(tmp_path / "table.npz")["correct"].mean(1)  # if everybody left there
        assert found.front[len(found.front) - 1].accuracy >= every.max() - 1e-9
        assert load(tmp_path / "TRAINED").thresholds == list(chosen.thresholds)

    def test_thresholds_are_one_per_stop(self, exported):
        _, out = exported()
        with pytest.raises(ValueError, match="got 2 thresholds"):
            load(out).thresholds = [0.5, -inf]

    def test_shared_weights_stay_shared(self, make_chosen, tmp_path):
        class Tied(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.c = (torch.nn.Linear(16, 16) for _ in range(3))
                self.out = torch.nn.Linear(16, 10)
                self.c.weight = self.b.weight

            def forward(self, x):
                return self.out(self.c(self.b(self.a(x).relu()).relu()).relu())

        x = np.random.default_rng(0).normal(size=(32, 16)).astype(np.float32)
        backbone = split(Tied(), x[:4])
        cut, head = backbone.cuts[0], make_chosen().config.design.exits[0].head
        net = ExitNet(backbone, {(cut.name, head.name): build_head(head, cut.shape, 10)}).eval()
        stops = tuple(Stop(exit=e, threshold=t) for e, t in zip(net.exits, (0.2, -inf), strict=True))
        plain = make_chosen()
        config = plain.config.model_copy(update={"fits": {"temperature": ((1.0,), (1.0,))}})
        config = config.model_copy(update={"policy": Policy(stops=stops, criterion="max_prob")})
        stages = net.stages(config.policy)
        chosen = replace(plain, config=config, stages=stages, losses=(1.0, 1.0), example=torch.from_numpy(x[:2]))
        write_hf(chosen, tmp_path)
        model = load(tmp_path)
        last = model.network.stages[1]
        assert last.c.weight is last.b.weight
        model.save_pretrained(tmp_path / "again")
        assert load(tmp_path / "again").predict(x).answer.tolist() == chosen.answers(x).answer.tolist()


@pytest.mark.parametrize(
    ("example", "task", "given"),
    [
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "AutoModelForImageClassification", "pixel_values"),
        (torch.zeros(2, 12, dtype=torch.int64), "AutoModelForSequenceClassification", "input_ids"),
        (torch.zeros(2, 12), "", "inputs"),
        (torch.zeros(2, 3, 12), "", "inputs"),
    ],
)
def test_the_kind_of_samples_decides_what_transformers_calls_them(example, task, given):
    assert task_of(example) == (task, given)
