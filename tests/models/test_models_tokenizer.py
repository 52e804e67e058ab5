"""The Hugging Face tokenizer: ids of ``epilm.tokens``, framing, padding, saving, states."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import epilm.models
from epilm.models.tokenization_ebert import KmerTokenizer
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.states import tokenize_states
from epilm.tokens.vocab import SPECIAL_TOKENS, dna_vocab_size

NAMES = ["quiescent", "promoter", "enhancer"]


def framed(ids: torch.Tensor, *, cls: int = 2, sep: int = 3) -> torch.Tensor:
    """CLS in front of every row, SEP behind."""
    return torch.nn.functional.pad(torch.nn.functional.pad(ids, (1, 0), value=cls), (0, 1), value=sep)


def random_text(length: int, seed: int = 0) -> tuple[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    codes = rng.choice(5, length, p=[0.245] * 4 + [0.02]).astype(np.uint8)
    lower = rng.random(length) < 0.3
    text = "".join("ACGTN"[c].lower() if low else "ACGTN"[c] for c, low in zip(codes, lower, strict=True))
    return text, torch.from_numpy(codes)


@pytest.mark.parametrize("k", range(1, 9))
@pytest.mark.parametrize("stride", [1, 3, 7])
def test_ids_are_those_of_the_tokens_package(k, stride):
    tokenizer = KmerTokenizer(k=k, stride=stride)
    texts, codes = zip(*(random_text(101, seed) for seed in range(4)), strict=True)
    expected = tokenize_kmers(torch.stack(codes), k=k, stride=stride)
    batch = tokenizer(list(texts), return_tensors="pt")
    assert torch.equal(batch["input_ids"], framed(expected))
    assert batch["attention_mask"].all()
    assert set(batch) == {"input_ids", "attention_mask"}
    assert tokenizer(texts[0])["input_ids"] == [2, *expected[0].tolist(), 3]
    assert tokenizer(texts[0], add_special_tokens=False)["input_ids"] == expected[0].tolist()
    assert tokenizer.convert_tokens_to_ids(tokenizer.tokenize(texts[0])) == expected[0].tolist()


def test_vocabulary_and_words():
    tokenizer = KmerTokenizer(k=2, stride=1)
    assert len(tokenizer) == tokenizer.vocab_size == dna_vocab_size(2)
    assert tokenizer.convert_ids_to_tokens(list(range(9))) == [*SPECIAL_TOKENS, "AA", "AC", "AG", "AT"]
    assert [tokenizer.get_vocab()[word] for word in ("[MASK]", "AA", "TT")] == [4, 5, 20]
    assert tokenizer.all_special_ids == [0, 1, 2, 3, 4] or set(tokenizer.all_special_ids) == set(range(5))
    assert tokenizer.decode(tokenizer("ACG")["input_ids"]) == "[CLS] AC CG [SEP]"


def test_padding_and_truncation():
    tokenizer = KmerTokenizer(k=3, stride=3)
    batch = tokenizer(["ACGTACG", "ACGTACGTACGT"], padding=True, return_tensors="pt")
    assert batch["input_ids"][0].tolist()[-2:] == [0, 0]
    assert batch["attention_mask"].sum(1).tolist() == [4, 6]
    cut = tokenizer("ACGTACGTACGT", truncation=True, max_length=4)["input_ids"]
    assert len(cut) == 4
    assert (cut[0], cut[-1]) == (2, 3)


def test_special_tokens_in_the_text():
    tokenizer = KmerTokenizer(k=3, stride=3)
    assert tokenizer("ACG[MASK]ACG")["input_ids"] == [
        2,
        tokenizer.get_vocab()["ACG"],
        4,
        tokenizer.get_vocab()["ACG"],
        3,
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("ACGU", r"'U' at position 3 is not a base"), ("AC GT", "without spaces"), ("AC", "no 3-mer"), ("", "no 3-mer")],
)
def test_what_is_not_dna_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        KmerTokenizer(k=3)([text])


@pytest.mark.parametrize(
    ("changes", "message"), [({"k": 9}, "k=9"), ({"k": 0}, "k=0"), ({"k": 6, "stride": 0}, "stride=0")]
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        KmerTokenizer(**changes)


def test_save_and_load(tmp_path):
    tokenizer = KmerTokenizer(k=4, stride=2, state_names=NAMES, bin_bp=25)
    tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "vocab.txt").read_text().split("\n")[4:6] == ["[MASK]", "AAAA"]
    loaded = KmerTokenizer.from_pretrained(tmp_path)
    assert (loaded.k, loaded.stride, loaded.state_names, loaded.bin_bp) == (4, 2, NAMES, 25)
    assert loaded("ACGTTGCAN")["input_ids"] == tokenizer("ACGTTGCAN")["input_ids"]
    assert loaded.get_vocab() == tokenizer.get_vocab()


def test_another_vocabulary_is_refused(tmp_path):
    KmerTokenizer(k=2).save_pretrained(tmp_path)
    words = (tmp_path / "vocab.txt").read_text().split("\n")
    words[5], words[6] = words[6], words[5]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(ValueError, match="not the vocabulary of k=2"):
        KmerTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(("k", "bin_bp"), [(7, 200), (6, 5), (3, 1), (8, 2)])
def test_states_are_those_of_the_tokens_package(k, bin_bp):
    rng = np.random.default_rng(k)
    length, num_bins = 90, -(-90 // bin_bp) + 1
    bins = rng.choice([0, 1, 2, 255], (4, num_bins)).astype(np.uint8)
    phase = rng.integers(0, bin_bp, 4)
    tokenizer = KmerTokenizer(k=k, stride=3, state_names=NAMES, bin_bp=bin_bp)
    expected = tokenize_states(
        torch.from_numpy(bins), torch.from_numpy(phase), bin_bp=bin_bp, k=k, stride=3, length_bp=length
    )
    assert torch.equal(tokenizer.encode_states(bins, phase, length_bp=length), framed(expected, cls=0, sep=0))
    assert torch.equal(tokenizer.encode_states(bins, phase, length_bp=length, add_special_tokens=False), expected)
    names = [[None if state == 255 else NAMES[state] for state in row] for row in bins]
    assert torch.equal(tokenizer.encode_states(names, phase, length_bp=length, add_special_tokens=False), expected)


def test_states_that_cannot_be_encoded_are_refused():
    tokenizer = KmerTokenizer(k=7, state_names=NAMES)
    with pytest.raises(ValueError, match="unknown state 'open'"):
        tokenizer.encode_states(["open", "promoter"], length_bp=300)
    with pytest.raises(ValueError, match="2 bins of 200 bp do not cover 300 bp"):
        tokenizer.encode_states([0, 1], 150, length_bp=300)
    with pytest.raises(ValueError, match="no states"):
        KmerTokenizer(k=7).encode_states([0, 1], length_bp=300)


def test_the_exported_files_import_nothing_of_this_package():
    """They are copied beside the weights and must load where epilm is not installed."""
    folder = Path(epilm.models.__file__).parent
    ours = {"configuration_ebert", "modeling_ebert", "tokenization_ebert"}
    for name in ours:
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert (node.level, node.module in ours) == (1, True)
                continue
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                root = str(module).split(".")[0]
                assert root in {"torch", "transformers", "numpy"} or root in sys.stdlib_module_names, module


def test_auto_tokenizer_with_remote_code(tmp_path):
    import json
    import shutil

    KmerTokenizer(k=5, stride=5).save_pretrained(tmp_path)
    shutil.copy(sys.modules[KmerTokenizer.__module__].__file__, tmp_path)
    config = tmp_path / "tokenizer_config.json"
    auto_map = {"auto_map": {"AutoTokenizer": ["tokenization_ebert.KmerTokenizer", None]}}
    config.write_text(json.dumps(json.loads(config.read_text()) | auto_map))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=True)
    assert type(tokenizer).__module__ != KmerTokenizer.__module__
    assert tokenizer("ACGTACGTAC")["input_ids"] == KmerTokenizer(k=5)("ACGTACGTAC")["input_ids"]
