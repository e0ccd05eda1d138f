"""Training that is killed, that runs in several processes, and that is started from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import training

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

STAGES = ("reasoner", "embedder", "lrem", "rl")
ADAPTER = {"rank": 4, "alpha": 8}

pytestmark = pytest.mark.timeout(1800)  # twenty trainings stand behind the first test

CHILDREN = """
import os, signal, socket, sys
import torch  # in this process nothing runs that starts threads: its children do the work, and load nothing again
from pathlib import Path
from lrem_os.train.recipes import load_recipe
from lrem_os.train.run import train
from torch.utils.tensorboard import SummaryWriter
from transformers import AutoTokenizer, BertModel, LlamaForCausalLM, PreTrainedTokenizerFast

def start(recipe, output, kill_at=None, **env):
    def told(progress):
        if progress.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    pid = os.fork()
    if pid == 0:
        try:
            os.environ.update(env)
            torch.set_num_threads(1)
            report = train(load_recipe(recipe), Path(output), on_progress=told)
            assert (report is None) == (env.get("RANK") == "1")
        except BaseException as exc:
            print(recipe, repr(exc), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid

def end(pid):
    return os.waitpid(pid, 0)[1]

folder = Path(sys.argv[1])
for stage in sys.argv[2:]:
    recipe = folder / f"{stage}.yaml"
    ends = [end(start(recipe, folder / stage / "whole")),
            end(start(recipe, folder / stage / "killed", kill_at=5)),
            end(start(recipe, folder / stage / "killed"))]
    assert ends == [0, signal.SIGKILL, 0], (stage, ends)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    ranks = [start(recipe, folder / stage / "two", RANK=rank, LOCAL_RANK=rank, **place) for rank in "01"]
    assert [end(pid) for pid in ranks] == [0, 0], stage
"""


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recipe for every stage: at least eight steps, a checkpoint after every third."""
    folder = tmp_path_factory.mktemp("training")
    shop = training.write_shop(folder / "shop")
    causal, encoder = training.write_causal(folder / "tiny-llama"), training.write_encoder(folder / "tiny-bert")
    for stage in STAGES:
        values = training.recipe_values(stage, shop, encoder if stage == "embedder" else causal, encoder)
        values["lora"] = ADAPTER
        values["optimisation"]["micro_batch_size"] = 3
        training.write_recipe(folder / f"{stage}.yaml", values)
    return folder


@pytest.fixture(scope="module")
def trained(recipes: Path) -> Path:
    """Return the folder after every stage was trained whole, killed with -9 and resumed, and by two processes."""
    done = run_python(["-c", CHILDREN, str(recipes), *STAGES])
    assert done.returncode == 0, done.stderr
    return recipes


def run_python(arguments: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=1500, check=False, env=environ
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_ends_with_the_weights_of_a_whole_one(trained: Path, stage: str) -> None:
    for part in ("checkpoint", "adapter"):
        whole, resumed = (training.weights(trained / stage / run / part) for run in ("whole", "killed"))
        assert whole.keys() == resumed.keys()
        assert len(whole) > 4
        for name in whole:
            assert torch.equal(whole[name], resumed[name]), f"{part}: {name}"


@pytest.mark.parametrize("stage", STAGES)
def test_the_metrics_of_a_killed_run_have_no_gap(trained: Path, stage: str) -> None:
    whole, resumed = (
        (trained / stage / run / "metrics.csv").read_text(encoding="utf-8") for run in ("whole", "killed")
    )
    assert whole == resumed
    steps = [line.split(",")[0] for line in whole.splitlines()[1:]]
    assert steps == [str(step) for step in range(len(steps))]
    assert len(steps) >= 8


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_end_with_the_weights_of_one(trained: Path, stage: str) -> None:
    one, two = (training.weights(trained / stage / run / "adapter") for run in ("whole", "two"))
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-5), name


def test_the_command_line_trains_and_says_what_it_did(recipes: Path) -> None:
    command = ["-m", "lrem_os", "train", "reasoner", str(recipes / "reasoner.yaml")]
    done = run_python([*command, "--dry-run", "--json", "--set", "base.model_type=llama"])
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["stage"], report["steps"], report["weights"]) == ("reasoner", 2, None)
    assert "Traceback" not in done.stderr


def test_the_command_line_refuses_a_wrong_recipe(recipes: Path) -> None:
    done = run_python(
        ["-m", "lrem_os", "train", "reasoner", str(recipes / "reasoner.yaml"), "--set", "optimisation.epochs=none"]
    )
    assert done.returncode == 2
    assert "optimisation.epochs" in done.stderr
    assert "Traceback" not in done.stderr
