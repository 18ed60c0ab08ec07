"""Finished nodes -> tables, figures, one page."""

from dae_ssl.report.page import write_cell_page

__all__ = ["write_cell_page"]
