"""The pages of the documentation, what generates its reference, and how the site is built of both.

    conf      how Sphinx builds the site from these pages and from those of the repository
    sources   links of pages to source files and folders, which become pages of the site
    generate  `python -m docs.generate` writes reference/*.md from the code

It is a tool of developers: the package that is installed does not contain it.
"""
