"""What is missing and what it will cost. Sends nothing.

    profile     what a cluster looks like, or this machine
    plan        cells to the nodes they need, what is there, and the arrays that would compute the rest
    trial       a short timed run, to know costs before any cell has run
    cost        what missing nodes will take, from finished ones and trials
    room        the disk that they need, at the peak and in the end

A plan is made in a second or two and imports no torch.
"""
