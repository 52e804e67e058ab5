"""Contigs and their names: one chromosome is ``chrII``, ``II``, ``chr2`` or ``2`` in files of one assembly.

Names are matched by rule, then checked by length where both files know it. A name that already fits is never
re-read as a numeral: ``chrX`` is the sex chromosome where the reference has an ``X``, and chromosome 10 only where one
of the two files counts in Roman numerals.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from epilm.errors import GenomeError

_CHR = re.compile(r"^(chromosome|chrom|chr)[_ -]?(?=.)", re.IGNORECASE)
_PLASTID = {"c", "pt", "pltd", "chloroplast", "plastid"}
_MITO = {"m", "mt", "mito", "mitochondrion", "mitochondrial", "mtdna", "mitochondria"}
_ROMAN = re.compile(r"^(?=[ivxl])(xl|l?x{0,3})(ix|iv|v?i{0,3})$")
_ROMAN_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50}
_YEAST_CHROMOSOMES = 16  # SGD numbers the mitochondrion 17, after the sixteen chromosomes


@dataclass(frozen=True)
class Contig:
    """A sequence of the assembly and the part of it that a file holds, 0-based half-open.

    ``length_bp`` is the whole contig's length, or None where only a piece is known (a header such as
    ``>22:20000001-21000000`` tells where the piece lies, not how long the contig is).
    """

    name: str
    length_bp: int | None
    start_bp: int = 0
    end_bp: int = 0

    def __post_init__(self) -> None:
        if self.end_bp == 0 and self.length_bp:
            object.__setattr__(self, "end_bp", self.length_bp)


def match_contigs(
    reference: Mapping[str, int | None],
    other: Mapping[str, int | None],
    *,
    source: str,
    required: Collection[str] = (),
) -> dict[str, str]:
    """Match the contigs of a file to those of the reference.

    Args:
        reference: contig name -> length_bp (None where unknown) of the sequence.
        other: the same for the file; contigs that the reference lacks (patches, other chromosomes) are left out.
        source: the file's name, for messages.
        required: reference contigs that must be found.

    Returns:
        Name in the file -> name in the reference, in the file's order.

    Raises:
        GenomeError: nothing matches, a required contig has no partner, two names of the file mean one contig, or the
            lengths differ (another assembly).
    """
    lookup = _Lookup(reference, other)
    matches: dict[str, str] = {}
    partner: dict[str, str] = {}
    found_for = {name: found for name in other if (found := lookup.find(name, other[name])) is not None}

    def rank(name: str) -> tuple[bool, bool, bool]:
        """Exact names win, then those of the same length, then those that differ by a "chr" alone."""
        found = found_for[name]
        return name not in reference, other[name] != reference[found], _without_chr(name) != _without_chr(found)

    for name in sorted(found_for, key=rank):
        found = found_for[name]
        if found in partner:
            mine, theirs = other[name], other[partner[found]]
            if rank(partner[found]) < rank(name) and mine is not None and theirs is not None and mine != theirs:
                continue  # two sequences, such as chrM and chrMT of hg19; the better name has been taken
            raise GenomeError(
                f"{source}: contigs {partner[found]!r} and {name!r} both mean {found!r}. Keep one name for one contig."
            )
        _check_length(reference[found], other[name], name=name, found=found, source=source)
        matches[name], partner[found] = found, name
    if not matches:
        raise GenomeError(
            f"{source}: none of its contigs ({_examples(other)}) is in the sequence ({_examples(reference)}). "
            "Use files of one assembly; chr prefixes, Roman or Arabic numbers and M/MT/Mito are matched by themselves."
        )
    missing = [name for name in required if name not in partner]
    if missing:
        raise GenomeError(
            f"{source}: no contig for {_examples(missing)}; it has {_examples(other)}. "
            "Give a file that covers these contigs, or leave them out of the recipe's contigs."
        )
    return {name: matches[name] for name in other if name in matches}


def describe_matches(matches: Mapping[str, str]) -> str:
    """One line for the log, reference name first: ``chrII=II, chrIV=IV``."""
    return ", ".join(f"{reference}={name}" for name, reference in matches.items())


def with_sizes(contigs: Mapping[str, Contig], sizes: Mapping[str, int], *, source: str) -> dict[str, Contig]:
    """Complete the contigs of a sequence that holds only pieces with the lengths of a ``.sizes`` file.

    Raises:
        GenomeError: a contig is absent from the sizes, or reaches past its end there.
    """
    unknown: dict[str, int | None] = dict.fromkeys(contigs, None)
    names = {ours: theirs for theirs, ours in match_contigs(unknown, sizes, source=source, required=contigs).items()}
    result = {}
    for name, contig in contigs.items():
        length_bp = sizes[names[name]]
        if contig.end_bp > length_bp:
            raise GenomeError(
                f"{source}: {names[name]} has {length_bp:,} bp but the sequence of {name} reaches {contig.end_bp:,}. "
                "Use sizes of the same assembly."
            )
        result[name] = replace(contig, length_bp=length_bp)
    return result


def roman_to_int(text: str) -> int | None:
    """Value of a Roman numeral up to 49 (any case), or None where it is not one."""
    text = text.lower()
    if not _ROMAN.match(text):
        return None
    values = [_ROMAN_VALUES[letter] for letter in text]
    return sum(-v if v < following else v for v, following in zip(values, [*values[1:], 0], strict=True))


def _without_chr(name: str) -> str:
    return _CHR.sub("", name.strip()).lower()


def _bare(name: str) -> str:
    """``chrII``, ``ChrII`` -> ``ii``; every name of the mitochondrion -> ``m``, of the chloroplast -> ``c``."""
    bare = _without_chr(name)
    return "m" if bare in _MITO else "c" if bare in _PLASTID else bare


def _counts_in_roman(bares: Iterable[str]) -> bool:
    """Whether any name is a Roman numeral; a lone ``X`` is no evidence, it is a sex chromosome elsewhere."""
    return any(bare != "x" and roman_to_int(bare) is not None for bare in bares)


class _Lookup:
    """Finds the reference's contig for a name: exact, then bare, then by number; of several the one of that length."""

    def __init__(self, reference: Mapping[str, int | None], other: Mapping[str, int | None]) -> None:
        self._reference = reference
        self._by_bare: dict[str, list[str]] = {}
        self._by_number: dict[int, list[str]] = {}
        for name in reference:
            self._by_bare.setdefault(_bare(name), []).append(name)
        roman = _counts_in_roman(self._by_bare)
        self._numerals = roman or _counts_in_roman(map(_bare, other))
        for bare, names in self._by_bare.items():
            number = self._number(bare)
            if number is not None:
                self._by_number.setdefault(number, []).extend(names)
        last = max(self._by_number, default=0)
        self._is_yeast = last <= _YEAST_CHROMOSOMES and (roman or last == _YEAST_CHROMOSOMES)

    def find(self, name: str, length_bp: int | None) -> str | None:
        if name in self._reference:
            return name
        bare = _bare(name)
        number = self._number(bare)
        names = self._by_bare.get(bare) or (self._by_number.get(number) if number is not None else None)
        if not names and number == _YEAST_CHROMOSOMES + 1 and self._is_yeast:
            names = self._by_bare.get("m")
        if not names and bare == "m" and self._numerals and max(self._by_number, default=0) == _YEAST_CHROMOSOMES + 1:
            names = self._by_number[_YEAST_CHROMOSOMES + 1]
        if not names:
            return None
        return next((n for n in names if length_bp is not None and self._reference[n] == length_bp), names[0])

    def _number(self, bare: str) -> int | None:
        if bare.isdecimal():
            return int(bare)
        return roman_to_int(bare) if self._numerals else None


def _check_length(ours: int | None, theirs: int | None, *, name: str, found: str, source: str) -> None:
    if ours is not None and theirs is not None and ours != theirs:
        raise GenomeError(
            f"{source}: contig {name} has {theirs:,} bp, but {found} of the sequence has {ours:,} bp: "
            "another assembly, or a piece of the contig. Use files of one assembly, give genome.sizes where the "
            "sequence is a piece, or leave the contig out with genome.contigs."
        )


def _examples(names: Iterable[str], limit: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f", ... ({len(names)} in all)" if len(names) > limit else "") or "none"
