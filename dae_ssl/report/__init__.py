"""Finished nodes -> pages.

A page can be drawn at any time: what was not measured is named as missing.

    cell            the page of one cell
    experiment      the page of an experiment, or of several
    export          the encoder of a cell as a folder that needs nothing of this package
    card            the model card in such a folder
    findings        what the store has of a cell
    scores          what can be named in tables and figures, and where a cell has it
    standing        how far cells are, and what of it would be computed again
    significance    how sure a score is: intervals and tests
    numbers         how numbers read
    table           tables, as HTML, Markdown and CSV
    drawing         how figures look, and what they are written as
    mosaics         images in rows and columns: reconstructions, views
    beside          the files beside a page
    markup          parts of a page, and the page as a whole
"""
