"""The computation of cells: their stages, in whatever process and on whatever machine they run.

    nodes       the nodes that cells need, shared ones once, and the tasks that compute them
    cells       a cell in a store: its description, folders, records, scores and floors
    done        the rule by which a node counts as done
    stages      what each stage computes: from its inputs to the products of its node
    life        the life of a node: locked, logged, computed and committed; a cell's nodes in order
    log         the append-only log of a node, which is the truth about what happened
    interrupt   requests to stop, and how a process answers them
    provenance  versions, commit, image, device, host and job of a result
    resources   the resources of one task: machines, processes, GPUs, processors, memory, time
    processes   the processes of a task: ranks, packed cells, or only this process
    lanes       long-lived processes that compute nodes side by side
    lane        the program of a lane: it computes one node after another
    running     a run on this machine: it computes what a store lacks of some cells
    order       which node is next, the state of each, and which cells are finished
    shares      processors, GPUs and memory, divided among lanes
    show        the interface to whatever shows a run's progress, and plain lines
    disk        the disk space of a store, and dropping features that no node needs any more
    spare       what can be removed from a store because no cell needs it
    archive     finished nodes <-> a file of results
    encoders    finished nodes <-> a folder of encoders that belongs to a file of results
    trained     the encoder of a cell: by settings, by key, or from a file
    command     the commands that pages and messages name

Modules that plans and reports read (nodes, cells, done, log, provenance, resources) import no torch.
"""
