"""Plan what is missing and estimate what it will cost. Nothing here submits a job.

    profile     describes a cluster, or this machine
    plan        turns cells into the nodes they need, and the missing ones into arrays
    trial       times each method briefly, so that costs are known before any cell has run
    cost        estimates the time of missing nodes from finished ones and trials
    room        estimates the disk space that missing nodes need, at the peak and in the end

Planning takes a second or two and does not import torch.
"""
