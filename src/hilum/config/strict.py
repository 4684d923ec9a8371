"""What every group of settings is made with: a key nobody knows is an error, and so is a number that is none."""

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
