"""Finished nodes -> tables, figures, one page."""
