"""The copy in MLflow of what the log says; without a server nothing waits and nothing is lost.

    server      the client, the experiment, and how its page opens
    runs        a cell, as far as it was computed, as a run
    lane        a process that computes nodes and copies them
    copying     a run's logs, settings and files, brought up to date as often as one likes

MLflow is imported here and nowhere else, and only where something is copied.
"""
