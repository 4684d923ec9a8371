"""The evaluation of PaCX-MAE (P 3, P 8), and the numbers published of it."""
