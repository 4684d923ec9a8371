"""The evaluation of MV-MLM (L 3), and the numbers published of it."""
