"""SLURM: the one room that speaks its language.

    queue        what SLURM says: queue, limits, history; and cancelling
    machines     what a cluster is made of: partitions and machines, which SLURM calls nodes
    script       batch scripts, and handing them to sbatch
    snapshot     what tasks run: a copy of the code, and the digest of the image
    tasks        the file of an array, a line for each task
    submissions  what was sent, as the store has it
    launch       a plan to arrays: written down, sent, adopted again after a submitter was killed
    status       how far each node is, from the store, its log and the queue
    spent        submissions that ended, and the code that none runs any more
    finding      one answer to a question about a profile
    check        what of a profile will not work, as it is seen from here
    judge        what SLURM makes of a profile

Nothing here needs accounting: where a cluster keeps none, the store's own files tell what became of a task.
"""
