"""How a breast is compressed for a view: the same point of the body has its place in CC and in MLO.

The uncompressed breast is half an ellipsoid with a tail. A view looks along an axis n of the plane across the breast
(CC: down; MLO: 40 to 58 degrees oblique); m is the other axis of that plane. With u from the chest wall's edge of the
image towards the nipple, v up the image and w along the beam, all in millimetres, a point (x, y, z) goes to

    u = a x - k n - o       stretched, sheared (CC loses what is up and behind, MLO what is inside and behind), cut off
    v = b m                 stretched
    w = n / h(x', m) t/2    from the body's own half thickness h to the compressed one; x' = x - k n / a

so a ray (u, v) runs through the points x' + k n / a, n from -h to h. The beam is parallel: a real one magnifies by up
to 8 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64
from scipy.ndimage import zoom

from hilum.phantom.breast import kernels
from hilum.phantom.breast.noise import make_rng
from hilum.phantom.breast.plan import PROJECTIONS, ExamPlan, Finding, Projection, ViewPlan

ASPECT = 0.6  # width / height of an image
FIELDS = (240.0, 290.0)  # height of the field in millimetres: the small paddle and the large one
COARSE = 4  # distances to the outline are found on a grid this much coarser


@dataclass(frozen=True)
class Frame:
    """The grid of one image: pixel (row, col) is at u = col pixel, v = top - row pixel (mm)."""

    rows: int
    cols: int
    pixel: float  # millimetres
    top: float  # v of row 0
    left: float = 0.0  # u of column 0

    @property
    def corner(self) -> tuple[float, float]:
        return self.left, self.top

    def find_pixel(self, u: float, v: float) -> tuple[float, float]:
        """(row, col) of a place in millimetres."""
        return (self.top - v) / self.pixel, (u - self.left) / self.pixel

    def cut(self, u: float, v: float, reach: float, pixel: float) -> Frame:
        """A square frame about a place, on a grid of its own."""
        num = 2 * int(np.ceil(reach / pixel)) + 1
        return Frame(num, num, pixel, v + (num // 2) * pixel, u - (num // 2) * pixel)


@dataclass(frozen=True)
class Pose:
    """One compression of one breast."""

    projection: Projection
    depth: float  # of the uncompressed body
    radius: float
    tail: float  # half thickness that is left outside the ellipsoid
    a: float
    b: float
    k: float
    o: float
    m: tuple[float, float]  # (y, z) of the axis up the image
    n: tuple[float, float]  # (y, z) of the axis along the beam
    thickness: float  # compressed, millimetres
    edge: float  # over which the compressed breast rounds off
    skin: float  # millimetres
    outline: Float64[np.ndarray, "point 2"]  # (u, v) from the lower end at the chest wall to the upper
    field: float  # height of the image, millimetres
    top: float  # v of the image's upper edge
    muscle: tuple[float, float, float]  # its edge: u at the image's top, v where it meets the chest wall, bulge

    def find_half(self, base: np.ndarray, m: np.ndarray) -> np.ndarray:
        """h(x', m), millimetres."""
        square = 1 - (base / self.depth) ** 2 - (m / self.radius) ** 2
        return np.sqrt(self.radius**2 * np.maximum(square, 0) + self.tail**2)

    def place(self, points: Float64[np.ndarray, "point 3"]) -> Float64[np.ndarray, "point 3"]:
        """(u, v, w / (t/2)) of points (x, y, z): the third is -1 on the lower skin and 1 on the upper."""
        x, across = points[:, 0], points[:, 1:]
        m, n = across @ np.array(self.m), across @ np.array(self.n)
        base = x - self.k * n / self.a
        return np.stack([self.a * base - self.o, self.b * m, n / self.find_half(base, m)], axis=1)

    @property
    def axes(self) -> Float64[np.ndarray, "3 3"]:
        """Rows: the directions u, v and w of the image in the breast's frame, for things that stay rigid."""
        return np.array([[1.0, 0, 0], [0, *self.m], [0, *self.n]])

    def frame(self, size: int) -> Frame:
        """The whole image with `size` rows."""
        return Frame(size, round(size * ASPECT), self.field / size, self.top)


def compress(exam: ExamPlan, view: ViewPlan) -> Pose:
    """The pose of one exposure. A breast is much the same at every exam; compression and centring differ a little."""
    woman = exam.woman
    side = "LR".index(view.laterality)
    number = PROJECTIONS.index(view.projection)
    own = make_rng("breast body", woman.key, side)
    now = make_rng("breast pose", exam.key, side, number, view.repeat)
    depth, radius = woman.depth * own.normal(1, 0.02), woman.radius * own.normal(1, 0.02)
    thickness = float(np.clip(0.42 * radius + 0.16 * depth + own.normal(0, 4) + now.normal(0, 2.5), 24, 85))
    skin = float(np.clip(own.normal(1.5, 0.2), 1.1, 2.2))
    edge = thickness * now.uniform(0.30, 0.42)
    oblique = view.projection == "MLO"
    a, b = now.normal(1.12 if oblique else 1.10, 0.02), now.normal(1.10, 0.02)
    tilt = np.radians(now.uniform(40, 58))
    m, n = ((np.sin(tilt), np.cos(tilt)), (np.cos(tilt), -np.sin(tilt))) if oblique else ((1.0, 0.0), (0.0, 1.0))
    k = now.uniform(0.10, 0.20) * (-1 if oblique else 1)
    o = a * depth * (now.uniform(-0.02, 0.02) if oblique else now.uniform(0.03, 0.10))
    reach = a * depth - o
    field = FIELDS[int(max(2.25 * b * radius, 1.75 * reach) > FIELDS[0])]
    top = field * (now.uniform(0.56, 0.64) if oblique else now.uniform(0.47, 0.53))
    outline = _outline_mlo(own, now, reach, b * radius, top) if oblique else _outline_cc(own, now, reach, b * radius, o)
    outline = _dent(_add_nipple(outline, own, now, exam.findings[view.laterality]), exam, view, (a, b, k, o), (m, n))
    muscle = (
        reach * now.uniform(0.38, 0.62) if oblique else -1.0,
        -now.uniform(-0.30, 0.12) * top,
        now.uniform(-0.02, 0.09),
    )
    if not oblique and now.random() < 0.25:
        muscle = (-1.0, 0.0, now.uniform(3.0, 9.0))  # a crescent of it at the chest wall
    return Pose(
        view.projection, depth, radius, 20.0 if oblique else 5.0, a, b, k, o, m, n, thickness, edge, skin, outline,
        field, top, muscle,
    )  # fmt: skip


def _outline_cc(
    own: np.random.Generator, now: np.random.Generator, reach: float, radius: float, cut: float
) -> Float64[np.ndarray, "point 2"]:
    angle = np.linspace(-np.pi / 2, np.pi / 2, 161)
    u = (reach + cut) * np.cos(angle) ** own.uniform(0.86, 1.06) - cut
    lean = own.normal(0, 0.05) + now.normal(0, 0.02)
    v = radius * (np.sin(angle) + lean * np.cos(angle) ** 2)
    v = v * np.where(v > 0, own.uniform(0.97, 1.10), 1.0)  # fuller on the outer side
    wobble = sum(own.normal(0, 0.012) * np.cos((order + 2) * angle + own.uniform(0, 6)) for order in range(4))
    u = u + reach * wobble * np.cos(angle)
    ends = np.array([[-60.0, v[0] - 1.0]]), np.array([[-60.0, v[-1] + 1.0]])
    return np.concatenate([ends[0], np.stack([u, v], axis=1), ends[1]])


def _outline_mlo(
    own: np.random.Generator, now: np.random.Generator, reach: float, radius: float, top: float
) -> Float64[np.ndarray, "point 2"]:
    low = radius * own.uniform(0.86, 1.0)
    angle = np.linspace(-np.pi / 2, 0, 80)[:-1]
    below = np.stack([reach * np.cos(angle) ** own.uniform(0.72, 0.95), low * np.sin(angle)], axis=1)
    v = np.linspace(0, top + 30, 90)
    share = own.uniform(0.40, 0.72) + now.normal(0, 0.02)
    fall = (v / (top * own.uniform(0.80, 1.05))) ** own.uniform(1.7, 2.3)
    above = np.stack([reach * (share + (1 - share) / (1 + fall) ** 1.3 * 1.0), v], axis=1)
    outline = np.concatenate([below, above])
    wobble = sum(
        own.normal(0, 0.008) * np.cos((order + 1) * outline[:, 1] / 40 + own.uniform(0, 6)) for order in range(3)
    )
    outline[:, 0] *= 1 + wobble
    fold = np.array([[-60.0, -low - 6.0], [-0.5, -low - 2.0]])  # below the breast the belly's skin leaves the field
    return np.concatenate([fold, outline[outline[:, 1] > -low + 0.2], [[-60.0, top + 30]]])


def _add_nipple(
    outline: np.ndarray, own: np.random.Generator, now: np.random.Generator, findings: tuple[Finding, ...]
) -> np.ndarray:
    """The nipple at v = 0; seldom quite in profile, and drawn in by a retraction."""
    length, width = own.uniform(2.5, 6.0) * now.choice((1.0, 0.8, 0.35)), own.uniform(5.0, 8.0)
    for finding in findings:
        if finding.kind == "nipple retraction":
            length -= finding.strength * (length + 0.7 * finding.size)
            width *= 1 + 0.5 * finding.strength
    tip = outline[:, 0].max()
    v = np.linspace(-25, 25, 101)
    order = np.argsort(outline[:, 1])
    u = np.interp(v, outline[order, 1], outline[order, 0])
    far = np.abs(outline[:, 1]) > 25
    bump = np.exp(-((np.abs(v) / width) ** 3)) if length > 0 else np.exp(-0.5 * (v / width) ** 2)
    nipple = np.stack([u + length * bump, v], axis=1)
    lower, upper = outline[far & (outline[:, 1] < 0)], outline[far & (outline[:, 1] > 0)]
    assert tip > 0, "a breast has a tip"
    return np.concatenate([lower, nipple, upper])


def _dent(outline: np.ndarray, exam: ExamPlan, view: ViewPlan, linear: tuple, axes: tuple) -> np.ndarray:
    """Skin retraction: the skin over the place is drawn in, in the views that have it near their edge."""
    a, b, k, o = linear
    for finding in exam.findings[view.laterality]:
        if finding.kind == "skin retraction":
            x, m, n = finding.place[0], np.dot(finding.place[1:], axes[0]), np.dot(finding.place[1:], axes[1])
            place = np.array([a * x - k * n - o, b * m])
            away = np.linalg.norm(outline - place, axis=1)
            nearest = outline[np.argmin(away)]
            along = np.linalg.norm(outline - nearest, axis=1)
            inward = np.array([outline[:, 0].max() * 0.2, 0.0]) - nearest
            inward /= np.linalg.norm(inward)
            drawn = finding.strength * 0.20 * finding.size * np.exp(-0.5 * (along / (0.5 * finding.size)) ** 2)
            outline = outline + drawn[:, None] * inward
    return outline


def find_distance(pose: Pose, frame: Frame) -> Float32[np.ndarray, "row col"]:
    """Millimetres from the skin's outer edge, inside positive."""
    step = COARSE if min(frame.rows, frame.cols) > 200 else 1
    coarse = -(-(frame.rows - 1) // step) + 1, -(-(frame.cols - 1) // step) + 1
    distance = np.zeros(coarse)
    kernels.measure_distance(pose.outline, np.array(frame.corner), frame.pixel * step, distance)
    if step > 1:
        distance = zoom(distance, [((num - 1) * step + 1) / num for num in coarse], order=3)
    return distance[: frame.rows, : frame.cols].astype(np.float32)


def find_thickness(pose: Pose, distance: np.ndarray, less: float | np.ndarray = 0.0) -> Float32[np.ndarray, "row col"]:
    """Millimetres of the breast along each ray, `less` of it taken away all round (the skin)."""
    share = np.clip((distance - less) / pose.edge, 0, 1)
    return ((pose.thickness - 2 * less) * np.sqrt(1 - (1 - share) ** 2)).astype(np.float32)


def find_muscle(pose: Pose, frame: Frame) -> Float32[np.ndarray, "row col"]:
    """Share of each ray that is pectoral muscle, 0 to 1."""
    v = (frame.top - frame.pixel * np.arange(frame.rows))[:, None]
    u = (frame.left + frame.pixel * np.arange(frame.cols))[None, :]
    if pose.projection == "CC":
        if pose.muscle[2] <= 0.5:
            return np.zeros((frame.rows, frame.cols), np.float32)
        behind = pose.muscle[2] * (1 - (v / (0.55 * pose.radius)) ** 2) - u
        return (0.35 * np.clip(behind / 2.5, 0, 1)).astype(np.float32)
    width, end, bulge = pose.muscle
    along = np.clip((v - end) / (pose.top - end), 0, None)
    edge = width * (along + bulge * 4 * along * (1 - along))
    behind = (edge - u) * (pose.top - end) / np.hypot(width, pose.top - end)
    return (0.52 * (1 - 1 / (1 + np.clip(behind, 0, None) / 5.0) ** 1.3) * (behind > 0)).astype(np.float32)
