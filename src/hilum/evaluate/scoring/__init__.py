"""What is said of scores: metrics, their intervals by patient, paired differences, choices made on validation."""
