"""Pretraining: views, networks, losses and methods, and the loop that brings them together.

    views           clean images to random views, each a pure function of seed, epoch, image and view
    render_triton   the same views by one kernel on a GPU
    networks        encoder, projector and decoder of the study
    losses          reconstruction, embedding and contrastive losses, by name
    methods         what is trained, one file each
    step            one training step, compiled and captured where that helps
    pretrain        the loop, and only the loop
    monitor         what is observed during training: signs of collapse, example pictures
    checkpoint      the whole training state, from which a run resumes bit for bit
    weights         networks as safetensors
    frozen          a trained encoder as people use it

Nothing here knows the store: the caller's `Watch` receives scores and networks and decides what is kept.
"""
