"""Result files to one self-contained HTML page."""

from epilm.report.page import build_report as build_report
