"""The copy of the logs in MLflow; without a server nothing waits and nothing is lost.

    server      MLflow's client, the experiment, and the view in which its page opens
    runs        a cell, as far as it is computed, as an MLflow run
    lane        a process that computes nodes and copies them to MLflow
    copying     brings a run's metrics, settings and files up to date, as often as needed

Only this package imports MLflow, and only in the functions that copy.
"""
