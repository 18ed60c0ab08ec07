"""The page of an experiment, or of several.

It shows figures, tables and claims, each beside what was published.

    page        the page, part by part, with its files
    lead        what tells its cells from the study's, said above all
    parts       its parts: a section with what came of it
    subjects    its rows, as far as they were measured: means over seeds, paired differences
    verdicts    what is published, held against what was measured
    tables      its scores and its claims as tables
    exhibits    its figures
"""
