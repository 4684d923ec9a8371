"""The evaluation of MVMAE (M 4.2), and the numbers published of it."""
