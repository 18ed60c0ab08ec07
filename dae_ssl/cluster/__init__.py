"""The only package that uses SLURM.

    queue        asks SLURM for its queue, limits and history, and cancels tasks
    machines     reads the cluster's partitions and machines, which SLURM calls nodes
    script       composes batch scripts and hands them to sbatch
    snapshot     fixes what tasks run: a copy of the code, and the digest of the image
    tasks        writes and reads the file of an array, with one line per task
    submissions  reads from the store what was submitted
    launch       submits a plan's arrays, and finds arrays again whose submitter was killed
    status       gives the state of each node, from the store, its log and the queue
    spent        lists finished submissions, and snapshots of the code that no submission uses
    finding      holds one result of a check of a profile
    check        checks a profile as far as this machine can see
    judge        checks a profile against SLURM's limits, and with `sbatch --test-only`

Nothing here needs SLURM's accounting: without it, the files of the store say how each task ended.
"""
