"""Finished nodes -> tables, figures, one page."""

from dae_ssl.report.experiment import write_experiment_page
from dae_ssl.report.page import write_cell_page

__all__ = ["write_cell_page", "write_experiment_page"]
