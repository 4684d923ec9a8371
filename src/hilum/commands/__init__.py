"""The commands of `hilum`, by what they are for. Nothing heavy is imported before one runs, so that --help is quick."""
