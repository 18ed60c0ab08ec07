"""The page of one cell.

It says what was done, with what result against the floors, and how to do it again.

    page       the page, section by section
    tables     its scores, those of the floors, and how sure their differences are
    figures    its curves, and its reconstructions by epoch
    closing    the same in a few lines, with which a run ends on a terminal
    origin     its settings, its nodes and what computed them, what was out of the ordinary
"""
