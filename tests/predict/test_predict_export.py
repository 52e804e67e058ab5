"""``epilm export``: what it writes, what it refuses, and that transformers loads it where epilm is not installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from epilm.errors import CheckpointError, RunExistsError, StorageError
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.models.tokenization_ebert import KmerTokenizer
from epilm.predict.export import export_model
from epilm.predict.load import load_model
from epilm.storage import Location
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.states import tokenize_states

SETTINGS = {
    "ebert-k3": {"k": 3, "stride": 3},
    "ebert-k6-overlap": {"k": 6, "stride": 1, "combine": "concat"},
    "ebert-k5-gaps": {"k": 5, "stride": 7},
    "ebert-k8": {"k": 8, "stride": 4, "combine": "concat"},
    "dbert-k4": {"k": 4, "stride": 2, "states": False},
    "dbert-k7": {"k": 7, "stride": 7, "states": False},
}
LENGTH_BP, BIN_BP = 90, 20
DNA = torch.randint(0, 4, (3, LENGTH_BP), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
DNA[1, 40] = 4
BINS = torch.randint(0, 4, (3, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
BINS[0, 2] = 255
PHASE = torch.tensor([0, 7, 19])

# Runs where epilm, Ray and DeepSpeed cannot be imported and no network answers.
OUTSIDER = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"epilm", "ray", "deepspeed", "pyarrow", "pydantic"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import torch
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, AutoTokenizer

torch.set_num_threads(1)
job = torch.load(sys.argv[1])
results = {}
for folder in job["folders"]:
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    inputs = tokenizer(job["texts"], return_tensors="pt")
    padded = tokenizer([job["texts"][0], job["texts"][0][:45]], padding=True, return_tensors="pt")
    if config.num_states:
        inputs["state_ids"] = tokenizer.encode_states(job["bins"], job["phase"], length_bp=len(job["texts"][0]))
    model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    heads = AutoModelForPreTraining.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.inference_mode():
        hidden, scores = model(**inputs).last_hidden_state, heads(**inputs)
    assert len(model(**inputs, output_hidden_states=True).hidden_states) == 3
    results[folder] = {
        **inputs, "padded": padded["input_ids"], "mask": padded["attention_mask"],
        "hidden": hidden, "dna_logits": scores.dna_logits, "state_logits": scores.state_logits,
        "classes": [type(thing).__name__ for thing in (config, tokenizer, model, heads)],
    }
    saved = folder + "-saved"  # and once more, as a user who fine-tuned it would
    model.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    again = AutoModel.from_pretrained(saved, trust_remote_code=True).eval()
    same = AutoTokenizer.from_pretrained(saved, trust_remote_code=True)(job["texts"])["input_ids"]
    with torch.inference_mode():
        assert torch.equal(again(**inputs).last_hidden_state, hidden)
    assert same == inputs["input_ids"].tolist()
assert not {"epilm", "ray", "deepspeed"} & set(sys.modules)
torch.save(results, sys.argv[2])
"""


def framed(ids: torch.Tensor, *, cls: int = 2, sep: int = 3) -> torch.Tensor:
    """CLS in front of every row, SEP behind."""
    return torch.nn.functional.pad(torch.nn.functional.pad(ids, (1, 0), value=cls), (0, 1), value=sep)


def run_outside(folder: Path, code: str, *arguments: str) -> str:
    """Run Python code apart from this project: isolated, offline, with a cache of its own."""
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE") if key in os.environ}
    environment = kept | {"HOME": str(folder), "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    (folder / "outside.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", str(folder / "outside.py"), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def outside(tmp_path_factory, make_model):
    """name -> (model folder, its export, what the outsider computed with the export)."""
    folder = tmp_path_factory.mktemp("export")
    models = {name: make_model(**settings) for name, settings in SETTINGS.items()}
    exports = {name: export_model(str(model), folder / name) for name, model in models.items()}
    texts = ["".join("ACGTN"[code] for code in row) for row in DNA.tolist()]
    texts[2] = texts[2].lower()
    job = {"folders": [str(out) for out in exports.values()], "texts": texts, "bins": BINS, "phase": PHASE}
    torch.save(job, folder / "job.pt")
    run_outside(folder, OUTSIDER, "job.pt", "results.pt")
    results = torch.load(folder / "results.pt")
    return {name: (models[name], out, results[str(out)]) for name, out in exports.items()}


@pytest.mark.parametrize("name", SETTINGS)
def test_an_export_computes_the_same_without_epilm(outside, name):
    model, _, got = outside[name]
    k, stride = SETTINGS[name]["k"], SETTINGS[name]["stride"]
    reads_states = SETTINGS[name].get("states", True)
    assert got["classes"] == ["EbertConfig", "KmerTokenizer", "EbertModel", "EbertForPreTraining"]
    inputs = {"input_ids": framed(tokenize_kmers(DNA, k=k, stride=stride))}
    if reads_states:
        states = tokenize_states(BINS, PHASE, bin_bp=BIN_BP, k=k, stride=stride, length_bp=LENGTH_BP)
        inputs["state_ids"] = framed(states, cls=0, sep=0)
        assert torch.equal(got["state_ids"], inputs["state_ids"])
    assert torch.equal(got["input_ids"], inputs["input_ids"])
    short = (45 - k) // stride + 3
    assert torch.equal(got["padded"][0], inputs["input_ids"][0])
    assert torch.equal(got["padded"][1, : short - 1], inputs["input_ids"][0, : short - 1])
    assert got["padded"][1, short - 1 :].tolist() == [3, *[0] * (got["padded"].shape[1] - short)]
    assert got["mask"].sum(1).tolist() == [inputs["input_ids"].shape[1], short]
    heads = EbertForPreTraining.from_pretrained(model).eval()
    with torch.inference_mode():
        hidden = load_model(Location(str(model))).model(**inputs).last_hidden_state
        scores = heads(**inputs)
    torch.testing.assert_close(got["hidden"], hidden, rtol=0, atol=1e-6)
    torch.testing.assert_close(got["dna_logits"], scores.dna_logits, rtol=1e-6, atol=1e-5)
    assert (got["state_logits"] is None) == (scores.state_logits is None) == (not reads_states)
    if reads_states:
        torch.testing.assert_close(got["state_logits"], scores.state_logits, rtol=1e-6, atol=1e-5)


def test_the_code_of_the_model_cards_runs(outside, tmp_path):
    snippets = []
    for name in ("ebert-k6-overlap", "dbert-k7"):
        card = (outside[name][1] / "README.md").read_text()
        snippets += re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        (tmp_path / name).symlink_to(outside[name][1])
        for fact in (f"# {name}", "| assembly | toy1 |", "| contigs | chr1 |", "| windows | 90 bp |", "| seed | 1 |"):
            assert fact in card
        assert ("| 3 | quiet |" in card) == ("| cell types | liver, lung |" in card) == name.startswith("ebert")
    assert run_outside(tmp_path, "\n".join(snippets)) == "(1, 16)\n(1, 16)\n"


def test_the_bytes_of_the_weights_are_those_of_the_run(outside):
    for model, out, _ in outside.values():
        assert (out / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
        assert (out / "epilm.json").read_bytes() == (model / "epilm.json").read_bytes()


def test_the_tokenizer_of_an_export_knows_the_states(outside):
    tokenizer = KmerTokenizer.from_pretrained(outside["ebert-k3"][1])
    assert (tokenizer.state_names, tokenizer.bin_bp) == (["open", "poised", "closed", "quiet"], BIN_BP)
    assert tokenizer.encode_states([["quiet", None]], length_bp=3).tolist() == [[0, 6, 0]]
    assert KmerTokenizer.from_pretrained(outside["dbert-k4"][1]).state_names == []


def test_an_export_of_an_export_is_the_same(outside, tmp_path):
    _, out, _ = outside["ebert-k8"]
    again = export_model(out, tmp_path / out.name)
    assert sorted(path.name for path in again.iterdir()) == sorted(
        path.name for path in out.iterdir() if path.is_file()
    )
    for path in again.iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes(), path.name


class Bucket(Location):
    """A folder read through pyarrow's file system alone, as a bucket is."""

    is_local = property(lambda self: False)  # type: ignore[assignment]

    @property
    def _resolved(self):
        from pyarrow import fs

        return fs.LocalFileSystem(), self.uri

    def __truediv__(self, name):
        return Bucket(f"{self.uri}/{name}")


@pytest.mark.parametrize("place", [lambda path: Location(f"file://{path}"), lambda path: Bucket(str(path))])
def test_models_at_uris(ebert_folder, tmp_path, place):
    export_model(place(ebert_folder), tmp_path / "out")
    here, there = load_model(Location(str(ebert_folder))), load_model(place(tmp_path / "out"))
    for one, other in zip(here.model.parameters(), there.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_existing_folder_is_refused_and_only_an_export_is_overwritten(ebert_folder, dbert_folder, tmp_path):
    out = export_model(ebert_folder, tmp_path / "deep" / "out")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(RunExistsError, match="Use --overwrite"):
        export_model(dbert_folder, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    export_model(dbert_folder, out, on_existing="overwrite")
    assert json.loads((out / "config.json").read_text())["num_states"] == 0
    assert [path.name for path in out.parent.iterdir()] == ["out"]

    precious = tmp_path / "precious"
    precious.mkdir()
    export_model(ebert_folder, precious)  # an empty folder is no loss
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years")
    with pytest.raises(RunExistsError, match="is not an export"):
        export_model(ebert_folder, tmp_path / "home", on_existing="overwrite")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years"
    with pytest.raises(StorageError, match="is the model folder itself"):
        export_model(out, out, on_existing="overwrite")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        export_model(ebert_folder, tmp_path / "file" / "out")


def test_a_wrong_source_is_refused_and_nothing_is_written(ebert_folder, make_model, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match="does not exist"):
        export_model(tmp_path / "nowhere", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"has no epilm\.json"):
        export_model(tmp_path / "empty", out)
    model = make_model()
    (model / "tokenizer_config.json").rename(model / "away.json")
    with pytest.raises(CheckpointError, match=r"has no tokenizer_config\.json"):
        export_model(model, out)
    (model / "away.json").rename(model / "tokenizer_config.json")
    weights = load_file(model / "model.safetensors")
    save_file({key: value for key, value in weights.items() if "state_head" not in key}, model / "model.safetensors")
    with pytest.raises(CheckpointError, match="do not fit"):
        export_model(model, out)
    (model / "model.safetensors").write_bytes((ebert_folder / "model.safetensors").read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        export_model(model, out)
    assert not out.exists()
