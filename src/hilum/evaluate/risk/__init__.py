"""Risk of cancer over five years from frozen features: the head, the survival metrics, and the command (L 3.4, 3.5)."""
