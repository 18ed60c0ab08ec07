"""Draw the page of an experiment, or of several.

The page shows figures, tables and claims, each compared with the published numbers.

    page        writes the page, part by part, and its files
    lead        explains at the head of the page how its cells differ from the study's
    parts       joins a section with its results
    subjects    computes the scores of rows: means over seeds, paired differences
    verdicts    compares published numbers and claims with the measured scores
    tables      makes the tables of scores and claims
    exhibits    draws the figures
"""
