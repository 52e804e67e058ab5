"""The model card of an export: what the model was trained on, what it reads and gives, and code that runs as it stands."""

from __future__ import annotations

from collections.abc import Sequence

from epilm.predict.load import ModelInfo
from epilm.tokens.vocab import NO_STATE

_FRONT_MATTER = """---
library_name: transformers
tags: [dna, epigenome, {family}]
---
"""


def model_card(info: ModelInfo, *, name: str) -> str:
    """Markdown of the card; ``name`` is the export's folder, which the snippet loads."""
    reads_states = bool(info.layout.num_states)
    kind = "EBERT (DNA and epigenetic state)" if reads_states else "DBERT (DNA alone)"
    sections = [
        _FRONT_MATTER.format(family="ebert" if reads_states else "dbert") + f"# {name}",
        f"A masked language model of the genome: {kind}, {_maker(info)}.",
        "## Trained on\n\n" + _table(_training_rows(info)),
        _leak_note(info),
        "## Input and output\n\n" + _table(_shape_rows(info)),
        f"## Use\n\nNeeds only `torch` and `transformers`.\n\n```python\n{_snippet(info, name)}```",
        _state_note(info) if reads_states else "",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _maker(info: ModelInfo) -> str:
    provenance = info.provenance
    if provenance.imported_from is None:
        return f"trained with epilm {provenance.epilm_version}"
    return f"converted by epilm {provenance.epilm_version} from `{provenance.imported_from}`"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in rows)


def _training_rows(info: ModelInfo) -> list[tuple[str, str]]:
    provenance = info.provenance
    contigs = "all" if provenance.saw_everything else ", ".join(provenance.trained_contigs)
    rows = [("assembly", provenance.assembly), ("contigs", contigs)]
    if provenance.trained_regions is not None:
        regions = ", ".join(f"{chrom}:{start}-{end}" for chrom, start, end in provenance.trained_regions)
        rows.append(("regions (0-based, half-open)", regions))
    if provenance.state_names:
        rows.append(("cell types", ", ".join(provenance.trained_cell_types)))
    known = [
        ("optimizer steps", provenance.step, "{:,}"),
        ("seed", provenance.seed, "{}"),
        ("began with the weights", provenance.initial_weights, "`{}`"),
        ("corpus fingerprint", provenance.corpus_fingerprint, "`{}`"),
        ("recipe fingerprint", provenance.recipe_fingerprint, "`{}`"),
    ]
    rows.append(("windows", f"{provenance.window_bp} bp"))
    return rows + [(name, shown.format(value)) for name, value, shown in known if value is not None]


def _leak_note(info: ModelInfo) -> str:
    if info.provenance.saw_everything:
        return f"No evaluation on {info.provenance.assembly} is held out: the model has seen all of it."
    also = " and the cell types" if info.layout.num_states else ""
    return f"Evaluate on other contigs: the model has seen the contigs{also} above."


def _shape_rows(info: ModelInfo) -> list[tuple[str, str]]:
    layout, config = info.layout, info.config
    rows = [
        ("tokens", f"{layout.k}-mers every {layout.stride} bp; a k-mer with an N is `[UNK]`"),
        ("longest input", f"{layout.window_bp} bp = {layout.max_tokens} tokens, `[CLS]` in front and `[SEP]` behind"),
        (
            "encoder",
            f"{config.num_hidden_layers} layers, {config.num_attention_heads} heads, hidden size {config.hidden_size}",
        ),
    ]
    if layout.num_states:
        rows.append(("states", f"{layout.num_states}, in bins of {layout.bin_bp} bp"))
    return rows


def _snippet(info: ModelInfo, name: str) -> str:
    layout = info.layout
    states = ""
    if layout.num_states:
        num_bins = -(-layout.window_bp // layout.bin_bp)
        states = f"""
bins = [[0] * {num_bins}]  # one state number per {layout.bin_bp}-bp bin; {NO_STATE} = no data
inputs["state_ids"] = tokenizer.encode_states(bins, length_bp=len(dna))
"""
    return f"""import torch
from transformers import AutoModel, AutoTokenizer

folder = "{name}"
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()

dna = ("ACGTTGCA" * {-(-layout.window_bp // 8)})[:{layout.window_bp}]  # at most {layout.window_bp} bp
inputs = tokenizer([dna], return_tensors="pt")
{states}
with torch.inference_mode():
    hidden = model(**inputs).last_hidden_state  # [batch, tokens + 2, {layout.hidden_size}]
embedding = hidden[:, 1:-1].mean(dim=1)  # without [CLS] and [SEP]
print(tuple(embedding.shape))
"""


def _state_note(info: ModelInfo) -> str:
    names = "\n".join(f"| {index} | {name} |" for index, name in enumerate(info.provenance.state_names))
    return f"## States\n\n| number | name |\n|---|---|\n{names}"
