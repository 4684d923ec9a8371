"""What distillation is judged by beside probes: what features tell of teachers, retrieval, drift, attention (P 3)."""
