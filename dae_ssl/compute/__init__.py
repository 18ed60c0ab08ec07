"""What computes a cell: its stages, whatever process or machine they run in.

    nodes       the nodes that cells need, shared ones once, and the tasks that compute them
    cells       a cell in a store: its description, folders, records, scores and floors
    done        when a node counts as done
    stages      what each stage computes: inputs to the products of a node
    life        a node locked, logged, computed and committed; a cell's nodes in order
    log         the append-only log of a node, which is the truth about what happened
    interrupt   requests to stop, and when they are answered
    provenance  versions, commit, image, device, host and job of a result
    resources   what one task has: machines, processes, GPUs, processors, memory, time
    processes   a task's processes: ranks, packed cells, or this one
    lanes       long-lived processes that compute nodes side by side
    lane        inside a lane: one node after another
    running     what cells lack, computed on this machine
    order       which node is next, what becomes of each, and which cells are finished
    shares      processors, GPUs and memory, shared out
    show        what the person who watches is shown
    disk        what a store holds, and features that nobody reads any more
    spare       what of a store nobody needs
    archive     finished nodes as a file of numbers, and back
    encoders    the encoders that lie beside such a file
    trained     the encoder of a cell: by settings, by key, or from a file
    command     the commands that pages and messages name

Modules that plans and reports read (nodes, cells, done, log, provenance, resources) import no torch.
"""
