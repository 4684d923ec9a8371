"""The embedded data set: a seeded 3-D chest whose findings, views and reports describe one and the same body."""
