"""Published layouts of encoder weights: one function each, from a state dict to an encoder's config and weights."""

from .crossmae import read_crossmae
from .mae import read_mae
from .mvmae import read_mvmae
from .timm import read_timm

LAYOUTS = {"mvmae": read_mvmae, "mae": read_mae, "crossmae": read_crossmae, "timm": read_timm}
