"""The provenance survives a round trip, and its absence or damage is said in words."""

import pytest

from epilm.errors import CheckpointError
from epilm.models.provenance import PROVENANCE_FILE, Provenance, read_provenance, write_provenance
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
