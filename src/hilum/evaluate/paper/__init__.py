"""What the papers evaluated, on a user's own cache; the published numbers beside it."""
