"""Draw the page of one cell.

The page shows the settings of the cell, its scores compared with those of the floors, and how to compute it again.

    page       composes the page, section by section
    tables     makes the tables of scores, with intervals and tests
    figures    draws the curves of training and probe, and the reconstructions by epoch
    closing    writes the scores and verdicts with which a run ends on a terminal
    origin     lists settings, nodes, the versions and machines that computed them, and deviations
"""
