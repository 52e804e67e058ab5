"""Genes and regions from GTF, BED and SGD, on literal rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from genome_files import write_text

from epilm.errors import GenomeError
from epilm.genome.annotation import read_bed, read_blacklist, read_genes

GENES = ["gene_id", "gene_name", "chrom", "start", "end", "strand", "tss"]
ENSEMBL = """#!genome-build R64-1-1
#!genome-date 2011-09
IV\tsgd\tgene\t1802\t2953\t.\t+\t.\tgene_id "YDL248W"; gene_name "COS7"; gene_source "sgd"; gene_biotype "protein_coding";
IV\tsgd\ttranscript\t1802\t2953\t.\t+\t.\tgene_id "YDL248W"; transcript_id "YDL248W_mRNA";
IV\tsgd\texon\t1802\t2953\t.\t+\t.\tgene_id "YDL248W"; transcript_id "YDL248W_mRNA"; exon_number "1";
IV\tsgd\tgene\t3762\t3836\t.\t-\t.\tgene_id "YDL247W-A"; gene_source "sgd";
Mito\tsgd\tgene\t5\t5\t.\t-\t.\tgene_id "Q1"; gene_name "ONE";
"""
SGD = """S000002143\tORF\tDubious\tYAL069W\t\t\tchromosome 1\t\t1\t335\t649\tW\t\t1996-07-31\t1996-07-31\tDubious
S000031098\tCDS\t\t\t\t\tYAL069W\t\t1\t335\t649\tW\t\t1996-07-31\t1996-07-31\t
S000000062\tORF\tVerified\tYAL064C-A\tTDA8\tYAL065C-A\tchromosome 1\tL000004027\t1\t13743\t13363\tC\t\tx\tx\tnote
S000007261\tORF\tVerified\tQ0045\tCOX1\t\tchromosome 17\t\t17\t13818\t26701\tW\t\tx\tx\tnote
S000029019\tORF\tnot physically mapped\tABC1\t\t\t\t\t\t\t\t\t\tx\tx\tnote
S000036595\tnoncoding_exon\t\t\t\t\tsnR18\t\t1\t142367\t142468\tW\t\tx\tx\t
"""


def rows(path: str, **options: str) -> list[list]:
    table = read_genes(path, **options)
    assert list(table.columns) == GENES
    assert table["tss"].dtype == np.int64
    return table.to_numpy().tolist()


def test_genes_of_an_ensembl_gtf(tmp_path: Path) -> None:
    expected = [
        ["YDL248W", "COS7", "IV", 1801, 2953, "+", 1801],
        ["YDL247W-A", "", "IV", 3761, 3836, "-", 3835],
        ["Q1", "ONE", "Mito", 4, 5, "-", 4],
    ]
    assert rows(write_text(tmp_path / "x.gtf", ENSEMBL)) == expected
    assert rows(write_text(tmp_path / "x.gtf.gz", ENSEMBL.replace("\n", "\r\n"))) == expected
    assert rows(write_text(tmp_path / "genes.txt", ENSEMBL)) == expected


def test_transcripts_are_one_row_a_gene(tmp_path: Path) -> None:
    text = "\n".join(
        f'chr1\tt\texon\t{start}\t{end}\t.\t{strand}\t.\texon_gene_id "no"; gene_id "{gene}"; gene_name "n{gene}";'
        for gene, start, end, strand in [("B", 50, 60, "-"), ("A", 11, 20, "+"), ("B", 31, 45, "-"), ("A", 5, 7, "+")]
    )
    path = write_text(tmp_path / "x.gtf", text)
    expected = [["B", "nB", "chr1", 30, 60, "-", 59], ["A", "nA", "chr1", 4, 20, "+", 4]]
    assert rows(path) == expected
    assert rows(path, feature="exon") == expected
    with pytest.raises(GenomeError, match=r"has no feature 'CDS'\. It has: exon"):
        read_genes(path, feature="CDS")


def test_a_gene_in_two_places_is_refused(tmp_path: Path) -> None:
    row = 'chr{0}\tt\texon\t10\t20\t.\t+\t.\tgene_id "A";\n'
    with pytest.raises(GenomeError, match=r"1 genes are there twice, the first is 'A'"):
        read_genes(write_text(tmp_path / "x.gtf", row.format(1) + row.format(2)))


def test_genes_of_sgd(tmp_path: Path) -> None:
    path = write_text(tmp_path / "SGD_features.tab.gz", SGD)
    assert rows(path) == [
        ["YAL069W", "", "1", 334, 649, "+", 334],
        ["YAL064C-A", "TDA8", "1", 13362, 13743, "-", 13742],
        ["Q0045", "COX1", "17", 13817, 26701, "+", 13817],
    ]
    with pytest.raises(GenomeError, match=r"has no feature 'tRNA'\. It has: CDS, ORF, noncoding_exon"):
        read_genes(path, feature="tRNA")
    broken = SGD.replace("13743", "x13743")
    with pytest.raises(GenomeError, match="a position of a ORF is not a number"):
        read_genes(write_text(tmp_path / "y.tab", broken))


def test_genes_of_bed(tmp_path: Path) -> None:
    text = "II\t10\t11\tYBL1\t0\t+\nMito\t20\t31\tQ1\t0\t-\n"
    expected = [["YBL1", "", "II", 10, 11, "+", 10], ["Q1", "", "Mito", 20, 31, "-", 30]]
    assert rows(write_text(tmp_path / "x.bed", text)) == expected
    assert rows(write_text(tmp_path / "y.bed", "track name=genes\n" + text)) == expected
    numbers = "II\t10\t20\t1001\t500\t+\t10\t20\t0,0,0\n"  # BED9 whose names are numbers is no GTF
    assert rows(write_text(tmp_path / "z.bed", numbers)) == [["1001", "", "II", 10, 20, "+", 10]]
    with pytest.raises(GenomeError, match=r"BED, which has no features; leave out feature='gene'"):
        read_genes(write_text(tmp_path / "x.bed", text), feature="gene")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.bed", "II\t1\t2\n", "has no gene names: genes need BED6"),
        ("x.bed", "II\t1\t2\tA\n", r"gene 'A' at II:1-2 \(\.\) needs a strand"),
        ("x.bed", "II\t1\t1\tA\t0\t+\n", r"at least one base"),
        ("x.bed", "II\t1\t2\tA\t0\t+\nII\t5\t6\tA\t0\t+\n", "'A'. One row a gene"),
        ("x.bed", "II\t9\t2\tA\t0\t+\n", r"II:9-2 \(row 1\) is not an interval. BED is 0-based"),
        ("x.bed", "II\t-1\t2\tA\t0\t+\n", "is not an interval"),
        ("x.gtf", "II\t1\t2\tA\t0\t+\n", r"x\.gtf is named like GTF, but its rows are not"),
        ("x.bed", ENSEMBL, r"x\.bed is named like BED, but its rows are not"),
        ("x.gff3", "II\tS\tgene\t1\t9\t.\t+\t.\tID=gene:Y;Name=Z\n", "GTF is needed; GFF3 is not read"),
        ("x.txt", "gene,start,end\n", "is not (a )?BED"),
    ],
)
def test_what_holds_no_genes(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(GenomeError, match=message):
        read_genes(write_text(tmp_path / name, text))


def test_bed_of_any_width(tmp_path: Path) -> None:
    three = read_bed(write_text(tmp_path / "3.bed", "chr1\t0\t5\n"))
    assert three.drop(columns="score").to_numpy().tolist() == [["chr1", 0, 5, "", "."]]
    assert three["score"].isna().all()
    peak = "chr1\t5\t9\tp\t13.5\t*\t7.1\t-1\t3.2\t2\n"
    assert read_bed(write_text(tmp_path / "x.narrowPeak", peak)).to_numpy().tolist() == [["chr1", 5, 9, "p", 13.5, "."]]
    with pytest.raises(GenomeError, match=r"has 2 columns; chrom, start and end are needed"):
        read_bed(write_text(tmp_path / "2.bed", "chr1\t0\n"))


def test_blacklist(tmp_path: Path) -> None:
    table = read_blacklist(write_text(tmp_path / "b.bed.gz", "chr1\t0\t10\tHigh Signal Region\nchr2\t5\t5\tx\n"))
    assert table.to_dict("list") == {"chrom": ["chr1", "chr2"], "start": [0, 5], "end": [10, 5]}
