"""Image files of any kind to grey pixels in [0, 1], with what was done to them recorded by an id."""
