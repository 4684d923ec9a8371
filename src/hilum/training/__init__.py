"""The one training loop and what it needs: settings that fit, processes, optimisers, checkpoints, the run folder."""
