"""The provenance survives a round trip, and its absence or damage is said in words."""

import pytest

from epilm.errors import CheckpointError
from epilm.models.provenance import (
    PROVENANCE_FILE,
    Provenance,
    match_trained,
    read_provenance,
    with_initial,
    write_provenance,
)
from epilm.storage import Location

PROVENANCE = Provenance(
    assembly="toy1",
    trained_contigs=("chr1", "chr2"),
    trained_regions=(("chr1", 0, 500), ("chr2", 100, 900)),
    trained_cell_types=("liver",),
    corpus_fingerprint="abc",
    window_bp=1000,
    bin_bp=200,
    state_names=("open", "closed"),
    k=7,
    stride=7,
    step=12,
    seed=3,
    recipe_fingerprint="def",
)


def test_round_trip(tmp_path):
    path = write_provenance(Location(str(tmp_path)), PROVENANCE)
    assert path.name == "epilm.json"
    assert read_provenance(Location(str(tmp_path))) == PROVENANCE


def test_absent_folder_and_absent_file_differ(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_provenance(Location(str(tmp_path / "nowhere")))
    with pytest.raises(CheckpointError, match=r"has no epilm\.json"):
        read_provenance(Location(str(tmp_path)))


@pytest.mark.parametrize("text", ['{"assembly": "toy1"}', "{", '{"unknown_key": 1}'])
def test_damaged_file(tmp_path, text):
    (tmp_path / PROVENANCE_FILE).write_text(text)
    with pytest.raises(CheckpointError, match="not the provenance"):
        read_provenance(Location(str(tmp_path)))


def changed(**changes) -> Provenance:
    return Provenance.model_validate(PROVENANCE.model_dump() | changes)


@pytest.mark.parametrize(
    ("trained", "names"),
    [
        (("chr1",), {"chr1": "chr1"}),
        (("1", "chrUn"), {"1": "chr1"}),
        (("*",), {"chr1": "chr1", "chr2": "chr2"}),
        (("chr2", "*"), {"chr1": "chr1", "chr2": "chr2"}),
        (("chr9",), {}),
        (("chr1", "1"), {"chr1": "chr1"}),  # one contig named twice is still seen
    ],
)
def test_trained_contigs_under_the_names_used_here(trained, names):
    assert match_trained(trained, ["chr1", "chr2"], source="model") == names


def test_everything_has_no_regions():
    with pytest.raises(ValueError, match="trained_regions must be absent"):
        changed(trained_contigs=("*",))


@pytest.mark.parametrize(
    ("initial", "contigs", "regions"),
    [
        ({}, ("chr1", "chr2"), (("chr1", 0, 500), ("chr2", 100, 900))),
        (
            {"trained_contigs": ("2", "3"), "trained_regions": (("2", 0, 50), ("3", 0, 9))},
            ("chr1", "chr2", "3"),
            (("chr1", 0, 500), ("chr2", 100, 900), ("chr2", 0, 50), ("3", 0, 9)),
        ),
        ({"trained_contigs": ("chr3",), "trained_regions": None}, ("chr1", "chr2", "chr3"), None),
        ({"assembly": "toy2", "trained_contigs": ("chr3",)}, ("chr1", "chr2", "chr3"), None),
        ({"trained_contigs": ("*",), "trained_regions": None}, ("*",), None),
    ],
)
def test_a_run_has_seen_what_its_initial_weights_had_seen(initial, contigs, regions):
    joined = with_initial(PROVENANCE, changed(trained_cell_types=("lung",), **initial), "f00")
    assert (joined.trained_contigs, joined.trained_regions) == (contigs, regions)
    assert joined.trained_cell_types == ("liver", "lung")
    assert joined.initial_weights == "f00"
    assert (joined.assembly, joined.step) == ("toy1", 12)
