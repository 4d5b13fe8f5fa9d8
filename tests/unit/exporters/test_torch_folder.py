import ast
import subprocess
import sys
from inspect import getsource

import numpy as np
import pytest
import torch
from torch import nn

from eesearch.exporters import torch_runtime
from eesearch.exporters.formats import near_threshold
from eesearch.exporters.torch_folder import MODEL, load_module, write_torch
from eesearch.nets.inputs import as_tensor

DECISIONS = [
    ("max_prob", "own", False),
    ("max_prob", "own", True),
    ("patience", "own", False),
    ("margin", "mean", False),
    ("entropy", "most_confident", True),
    ("own_gate", "own", True),
    ("learned", "most_confident", False),
    ("learned_path", "own", False),
    ("margin", "average", False),
    ("margin", "max", False),
    ("margin", "combined", False),
]


@pytest.fixture(scope="module")
def example():
    """Raw samples like those that the chosen points are made on."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 17, (64, 1, 8, 8)).astype(np.uint8))


def loaded(chosen, folder):
    write_torch(chosen, folder)
    return load_module(folder / MODEL)


@pytest.mark.parametrize(("criterion", "answer", "asks"), DECISIONS)
def test_it_answers_as_the_network(make_chosen, tmp_path, criterion, answer, asks):
    chosen = make_chosen(criterion=criterion, answer=answer, asks=asks, gated=criterion.startswith(("own", "learned_")))
    module = loaded(chosen, tmp_path)
    network, samples = module.load(), chosen.samples
    own, safe = chosen.answers(samples), ~near_threshold(chosen, chosen.scores(samples))
    said = network.predict(torch.from_numpy(samples))
    assert len(set(own.exit)) > 1
    assert (said.answer.dtype, said.exit.dtype, said.score.dtype) == (torch.int64, torch.int64, torch.float32)
    np.testing.assert_array_equal(said.answer.numpy()[safe], own.answer[safe])
    np.testing.assert_array_equal(said.exit.numpy()[safe], own.exit[safe])
    np.testing.assert_allclose(said.score.numpy()[safe], own.score[safe], atol=1e-5)
    for n in np.flatnonzero(safe)[:10]:
        alone = network.predict(torch.from_numpy(samples[n : n + 1]))
        assert (alone.answer.item(), alone.exit.item()) == (own.answer[n], own.exit[n])
    assert len(module.EXITS) == len(chosen.stages) + asks
    assert module.EXITS[-1] == ("last resort" if asks else "output:own")
    assert list("0123456789") == module.CLASS_NAMES
    assert len(network.predict(torch.from_numpy(samples[:0])).answer) == 0


def test_everything_runs_for_training(make_chosen, tmp_path, example):
    chosen = make_chosen()
    network = loaded(chosen, tmp_path).load()
    carry = (example,)
    every = network(example)
    with torch.no_grad():
        for stage, logits in zip(chosen.stages, every, strict=True):
            carry, expected = stage.run(carry)
            torch.testing.assert_close(logits, expected)
    network.train()
    sum(logits.square().mean() for logits in network(example)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_samples_that_left_are_not_computed_any_further(make_chosen, tmp_path, example):
    network = loaded(make_chosen(), tmp_path).load()
    sizes = []
    for stage in network.stages:
        stage.register_forward_hook(lambda module, given, made: sizes.append(len(given[0])))
    stops = network.predict(example).exit
    assert sizes == [64, int((stops > 0).sum()), int((stops > 1).sum())]
    assert 0 < sizes[2] < sizes[1] < 64
    sizes.clear()
    first = int(torch.nonzero(stops == 0)[0])
    network.predict(example[first : first + 1])
    assert sizes == [1]


def test_thresholds_can_be_changed(make_chosen, tmp_path, example):
    network = loaded(make_chosen(), tmp_path).load()
    network.thresholds = [float("-inf"), 0.5, float("-inf")]
    assert set(network.predict(example).exit.tolist()) == {0}
    network.thresholds = [2.0, 2.0, 2.0]
    handed_on = network.predict(example)
    assert set(handed_on.exit.tolist()) == {3}
    assert set(handed_on.answer.tolist()) == {-1}
    assert handed_on.score.isnan().all()
    network.thresholds = [0.5]
    with pytest.raises(ValueError, match="3 thresholds are needed, one per stop; got 1"):
        network.predict(example)


def test_prediction_keeps_the_mode_and_the_running_statistics(make_chosen, tmp_path, example):
    network = loaded(make_chosen(), tmp_path).load().train()
    network.stages[0].eval()
    modes, state = [m.training for m in network.modules()], {k: v.clone() for k, v in network.state_dict().items()}
    network.predict(example)
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_can_be_moved_to_another_precision(make_chosen, tmp_path, example, dtype):
    chosen = make_chosen(criterion="margin", answer="mean")
    network = loaded(chosen, tmp_path).load().to(dtype)
    same = network.predict(example).answer.numpy() == chosen.answers(chosen.samples).answer
    assert same.mean() > (0.98 if dtype == torch.float64 else 0.8)
    assert network(example)[0].dtype == dtype


def test_training_goes_on_and_the_folder_s_weights_stay(make_chosen, tmp_path, example):
    module = loaded(make_chosen(), tmp_path)
    network = module.load().train()
    sum(logits.square().mean() for logits in network(example)).backward()
    torch.optim.SGD(network.parameters(), 0.1).step()
    assert not torch.equal(network.stages[0].stem_0.weight, module.load(tmp_path).stages[0].stem_0.weight)


ISOLATED = """
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"eesearch", "numpy", "safetensors"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
import warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
import torch
from model import EXITS, load
samples = torch.tensor(json.loads(sys.stdin.read()), dtype=torch.uint8)
said = load().predict(samples)
assert not {"eesearch", "numpy", "safetensors"} & set(sys.modules)
print("SAID", json.dumps([said.answer.tolist(), said.exit.tolist()]))
"""


def test_the_folder_needs_nothing_but_torch(make_chosen, tmp_path):
    """Another process, isolated, in which eesearch, numpy and safetensors cannot be imported."""
    chosen = make_chosen(criterion="entropy", answer="mean")
    write_torch(chosen, tmp_path)
    samples = str(chosen.samples.tolist())
    done = subprocess.run(
        [sys.executable, "-I", "-c", ISOLATED, str(tmp_path)],
        input=samples,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer, stop = ast.literal_eval(done.stdout.partition("SAID ")[2])
    own, safe = chosen.answers(chosen.samples), ~near_threshold(chosen, chosen.scores(chosen.samples))
    assert (np.array(answer) == own.answer)[safe].all()
    assert (np.array(stop) == own.exit)[safe].all()


def test_it_tells_what_it_is(make_chosen, tmp_path):
    write_torch(make_chosen(asks=True), tmp_path)
    text = (tmp_path / MODEL).read_text()
    about = ast.get_docstring(ast.parse(text))
    for words in ("tiny", "90.00%", "200 multiply-adds", "THRESHOLDS", "predict"):
        assert words in about
    assert "handed on" in text
    imported = {n.module for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)}
    assert imported == {"pathlib", "typing", "torch"}
    assert getsource(torch_runtime.StagedNetwork) in text


@pytest.mark.parametrize("dtype", torch_runtime._DTYPES.values())
def test_weights_of_every_kind_are_read(dtype, tmp_path):
    from safetensors.torch import save_file

    made = {"a": torch.arange(6).reshape(2, 3).to(dtype), "empty": torch.zeros(0, 2, dtype=dtype)}
    made["one"] = torch.tensor(1)
    save_file(made, tmp_path / "w.safetensors", metadata={"a": "b"})
    found = torch_runtime.read_safetensors(tmp_path / "w.safetensors")
    assert found.keys() == made.keys()
    assert all(torch.equal(found[name], made[name]) and found[name].dtype == made[name].dtype for name in made)


def test_tied_tensors_are_tied_again():
    network = torch_runtime.StagedNetwork([nn.Linear(2, 2), nn.Linear(2, 2)], [0.5, 0.5])
    network.share({"stages.1.weight": "stages.0.weight"})
    assert network.stages[1].weight is network.stages[0].weight
    assert as_tensor(np.zeros(2)).shape == (2,)
