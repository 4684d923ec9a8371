"""The numbers a chest is built from: persons and poses draw them, lesions change them, anatomy makes bodies of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hilum.phantom import bodies
from hilum.phantom.bodies import Solid, make_ellipsoid, make_rng
from hilum.phantom.plan import StudyPlan

SIDES = {"right": -1, "left": 1}  # sign of x
CENTER_Z, LEAN = 2.0, 0.12  # of the pleural cavities: widest level, and how far the upper chest lies to the back

# Order in which solids displace one another (the higher displaces the lower).
TOP, AIRWAY, MASS, SOLID_ORGAN, PLAQUE, LUNG, PLEURAL, MUSCLE, SKIN = (
    100.0,
    90.0,
    80.0,
    70.0,
    65.0,
    60.0,
    50.0,
    20.0,
    10.0,
)


@dataclass
class Lung:
    """One side of the chest; lesions change it."""

    sign: int
    dome: float  # height of the diaphragm's top
    density: float = bodies.LUNG
    vessel_scale: float = 1.0  # radii
    upward: float = 0.0  # share of vessel calibre moved to the upper zone (cephalisation)
    shift: float = 0.0  # of the mediastinal side, towards the patient's left
    fluid: float | None = None  # height of free fluid
    fluid_density: float = bodies.SOFT
    fluid_tag: str = ""
    collapse: float = 0.0  # share of the radius lost to air in the pleural space
    collapse_tag: str = ""


@dataclass
class Shape:
    """A chest in numbers (centimetres)."""

    scale: float
    half_width: float  # inside of the ribs
    half_depth: float
    apex: float
    fat: float  # under the skin
    female: bool
    age: float
    heart: float  # scale of the heart
    heart_turn: float  # of its long axis, radians
    aorta: float  # scale of aortic calibre
    unfolding: float  # how far the arch and descending aorta bow out
    mediastinum: float  # scale of the upper mediastinum's width
    bone: float  # mineral, scale
    kyphosis: float
    scoliosis: float
    lungs: dict[str, Lung]
    rib_breaks: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)  # (sign, rib) -> (where, step)
    wedges: dict[int, float] = field(default_factory=dict)  # vertebra (0 = T1) -> share of front height lost

    @property
    def lobe_center(self) -> float:
        """Distance of a lung's middle from the midline."""
        return 4.6 * self.scale

    def cavity(self, side: str) -> Solid:
        """The pleural cavity of one side: an ellipsoid cut at the mediastinum and by the sulcus, deep at the back."""
        lung = self.lungs[side]
        sign = lung.sign
        whole = make_ellipsoid(0.0, PLEURAL, (sign * self.lobe_center, 0.3, CENTER_Z), self.lung_size, lean=LEAN)
        floor = min(lung.dome, 1.5)
        return whole.clip(((-sign, 0, 0), -0.5 - sign * lung.shift), ((0, -0.35, -1.0), 4.6 * self.scale - floor))

    @property
    def lung_size(self) -> np.ndarray:
        """Semi-axes (3,) of a lung's ellipsoid."""
        return np.array([self.half_width - self.lobe_center, self.half_depth, self.apex - CENTER_Z])

    def collapsed(self, lung: Lung) -> tuple[np.ndarray, np.ndarray]:
        """Middle and semi-axes of a lung's ellipsoid, fallen towards its root as far as `lung.collapse` says."""
        lost = lung.collapse
        middle = (lung.sign * self.lobe_center * (1 - 0.45 * lost), 0.3 + 0.6 * lost, CENTER_Z - 2.2 * lost)
        return np.array(middle), self.lung_size * np.array([(1 - lost) * 1.02, 1 - 0.5 * lost, 1 - 0.75 * lost])

    def wall(self, side: int, angle: np.ndarray, z: np.ndarray, outward: float = 0.0) -> np.ndarray:
        """Points (n, 3) on the inside of the chest wall; angle 0 is the back, pi the front, at heights z."""
        level = np.sqrt(np.maximum(1 - ((z - CENTER_Z) / (self.apex - CENTER_Z + 1.2)) ** 2, 0.02))
        across = (self.half_width - self.lobe_center) * level + outward
        depth = self.half_depth * level + outward
        x = self.lobe_center * np.minimum(level * 1.3, 1.0) + across * np.sin(angle)
        y = 0.3 + LEAN * (z - CENTER_Z) + depth * np.cos(angle)
        return np.stack([side * x, y, z + 0 * angle], axis=-1)

    def spine(self, z: np.ndarray) -> np.ndarray:
        """Points (n, 3) on the line of vertebral bodies."""
        y = 6.1 * self.scale - 0.0125 * self.kyphosis * (z - 8.0) ** 2
        return np.stack([self.scoliosis * np.sin(z / 8.0), y, z + 0 * y], axis=-1)


def draw_shape(plan: StudyPlan) -> Shape:
    """A person's chest in the pose of one study, before lesions."""
    person = plan.person
    body, pose = make_rng("body", person.key), make_rng("pose", plan.key)
    female = person.sex == "F"
    scale = float(np.clip(person.height / 1.72, 0.86, 1.14)) * (0.985 if female else 1.0)
    bulk = float(np.clip(person.body_mass_index, 16, 42)) - 24
    half_width = 13.4 * scale * (0.955 if female else 1.0) * (1 + 0.004 * bulk) * body.normal(1, 0.03)
    half_depth = 8.9 * scale * (0.96 if female else 1.0) * (1 + 0.006 * bulk) * body.normal(1, 0.05)
    apex = 23.6 * scale * body.normal(1, 0.025)
    age = person.age + plan.day / 365.25
    rise = 0.09 * bulk + pose.normal(0, 0.8)
    if "AP" in plan.projections:
        rise += abs(pose.normal(2.2, 1.1))
    rise = float(np.clip(rise, -2.0, 5.5))
    lungs = {
        "right": Lung(-1, dome=rise + body.normal(0.2, 0.4)),
        "left": Lung(1, dome=rise + body.normal(-1.2, 0.5)),
    }
    density = bodies.LUNG * body.normal(1, 0.08) * (1 + 0.05 * rise)
    for lung in lungs.values():
        lung.density = float(density)
        lung.vessel_scale = float(np.clip(body.normal(1, 0.09) * (1 + 0.02 * rise), 0.75, 1.4))
        lung.upward = float(np.clip(pose.normal(0.05 if "AP" not in plan.projections else 0.25, 0.1), 0, 0.5))
    old = max(age - 45, 0) / 40
    # The heart that is 0.452 of the thorax at scale 1 (see anatomy) is made this person's.
    heart = person.heart_ratio / 0.452 * half_width / 13.4
    return Shape(
        scale=scale,
        half_width=float(half_width),
        half_depth=float(half_depth),
        apex=float(apex),
        fat=float(np.clip(0.9 + 0.13 * bulk + (0.5 if female else 0), 0.4, 4.0)),
        female=female,
        age=age,
        heart=float(heart * pose.normal(1.0, 0.012)),
        heart_turn=float(body.normal(0, 0.14)),
        aorta=float(scale * (1 + 0.16 * old) * body.normal(1, 0.06)),
        unfolding=float(np.clip(0.15 + 0.9 * old + body.normal(0, 0.15), 0, 1.4)),
        mediastinum=float(np.clip(1 + 0.012 * bulk + body.normal(0, 0.07) + 0.03 * rise, 0.8, 1.35)),
        bone=float(np.clip(body.normal(1.05 - 0.25 * old * (1.3 if female else 0.8), 0.08), 0.55, 1.25)),
        kyphosis=float(np.clip(body.normal(1 + 0.35 * old, 0.15), 0.5, 1.7)),
        scoliosis=float(body.normal(0, 0.25)),
        lungs=lungs,
    )
