"""An imported DNABERT (6-mers at stride 1, 510 of them) embeds intervals as transformers' BERT does, and is exported."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForMaskedLM

from epilm.corpus.gather import ContigReader
from epilm.corpus.intervals import BedIntervals
from epilm.models.dnabert_folder import import_dnabert
from epilm.predict.encode import Intervals, encode_intervals
from epilm.predict.export import export_model
from epilm.predict.load import load_model
from epilm.predict.plan import check_embed, leak_summary
from epilm.predict.recipe import EmbedRecipe
from epilm.storage import Location

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map("".join, product("ATCG", repeat=6))]
IDS = {word: i for i, word in enumerate(WORDS)}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """``.bert``, ``.folder``: a random model in the published layout at a tiny width, and its import."""
    folder = tmp_path_factory.mktemp("imported")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    bert = BertForMaskedLM(BertConfig(vocab_size=4101, initializer_range=0.5, **sizes)).eval()
    bert.save_pretrained(folder / "dnabert")
    (folder / "dnabert" / "vocab.txt").write_text("\n".join(WORDS))
    return SimpleNamespace(
        bert=bert.bert, folder=import_dnabert(folder / "dnabert", folder / "model", k=6, assembly="toy1")
    )


def by_transformers(bert, codes: np.ndarray, *, reverse: bool) -> np.ndarray:
    """Hidden states of the k-mers of at most 515 bp, read as text."""
    text = "".join("ACGTN"[code] for code in codes)
    text = text[::-1].translate(str.maketrans("ACGT", "TGCA")) if reverse else text
    ids = [IDS.get(text[i : i + 6], 1) for i in range(len(text) - 5)]
    with torch.inference_mode():
        return bert(torch.tensor([[2, *ids, 3]])).last_hidden_state[0, 1:-1].numpy()


def columns(*intervals: tuple[str, int, int, bool]) -> Intervals:
    chrom, start, end, reverse = zip(*intervals, strict=True)
    return Intervals(np.array(chrom, object), np.array(start), np.array(end), np.array(reverse))


def test_intervals_of_a_window_and_longer(toy_corpus, imported):
    loaded, reader = load_model(Location(str(imported.folder))), ContigReader(Location(str(toy_corpus.folder)))
    assert (loaded.layout.max_tokens, loaded.layout.window_bp, loaded.layout.stride) == (510, 515, 1)
    short, across_n, long = ("chr2", 40, 555, True), ("chr1", 400, 700, False), ("chr2", 100, 1000, False)
    encoded = encode_intervals(loaded, reader, columns(short, across_n, long), cells=(), pooling="tokens", batch_size=4)
    assert np.diff(encoded.offsets).tolist() == [510, 295, 895]
    assert encoded.num_known.tolist() == [510, 295 - 115, 895]
    dna = toy_corpus.dna
    expected = [
        by_transformers(imported.bert, dna["chr2"][40:555], reverse=True),
        by_transformers(imported.bert, dna["chr1"][400:700], reverse=False),
        # two full windows; the tokens that both have are those of the first
        by_transformers(imported.bert, dna["chr2"][100:615], reverse=False),
        by_transformers(imported.bert, dna["chr2"][485:1000], reverse=False)[125:],
    ]
    np.testing.assert_allclose(encoded.values, np.concatenate(expected), atol=1e-5)


def test_the_plan_of_an_embed_run_takes_it_and_counts_everything_as_seen(toy_corpus, imported, tmp_path):
    (tmp_path / "a.bed").write_text("chr1\t0\t600\nchr2\t0\t1203\n")
    plan = check_embed(
        EmbedRecipe(
            name="e", model=str(imported.folder), corpus=str(toy_corpus.folder),
            intervals=BedIntervals(path=str(tmp_path / "a.bed")),
        )
    )  # fmt: skip
    assert [part.sequences for part in plan.parts] == [2 + 3]
    contigs = [contig.name for contig in plan.manifest.contigs]
    leak = leak_summary(plan.columns, (), plan.info.provenance, contigs)
    assert leak == {"trained_contigs": ["*"], "intervals_on_trained": 2, "trained_cell_types": []}


def test_it_is_exported(imported, tmp_path):
    out = export_model(imported.folder, tmp_path / "export")
    card = (out / "README.md").read_text()
    assert "converted by epilm" in card
    assert "from `dnabert/model.safetensors (sha256 " in card
    assert "No evaluation on toy1 is held out" in card
    assert "| contigs | all |" in card
    assert "515 bp = 510 tokens" in card
    assert "None" not in card
    tokenizer = AutoTokenizer.from_pretrained(out, trust_remote_code=True)
    model = AutoModel.from_pretrained(out, trust_remote_code=True).eval()
    codes = np.random.default_rng(0).integers(0, 4, 60)
    with torch.inference_mode():
        inputs = tokenizer(["".join("ACGT"[code] for code in codes)], return_tensors="pt")
        hidden = model(**inputs).last_hidden_state[0, 1:-1]
    np.testing.assert_allclose(hidden.numpy(), by_transformers(imported.bert, codes, reverse=False), atol=1e-5)
