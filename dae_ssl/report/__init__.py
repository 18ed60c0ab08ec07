"""Draw pages from finished nodes.

A page can be drawn at any time: it marks what has not been measured as missing.

    cell            draws the page of one cell
    experiment      draws the page of an experiment, or of several
    export          writes the encoder of a cell as a folder that needs nothing of this package
    card            writes the model card of such a folder
    findings        reads the results of a cell from the store
    scores          finds the value of each named score in a cell
    standing        counts the measured cells, and the scores that would be computed again
    significance    computes intervals and tests
    numbers         formats numbers
    table           writes tables as HTML, Markdown, LaTeX and CSV
    latex           writes text and tables as LaTeX
    drawing         sets the style of figures, and writes them as SVG and PNG
    mosaics         draws images in rows and columns: reconstructions, views
    beside          writes the files beside a page
    markup          makes the elements of a page, and the whole page
"""
