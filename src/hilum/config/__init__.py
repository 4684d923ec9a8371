"""Settings: one frozen structure that a recipe fills, the command line overrides, and a run folder replays.

Every field says its meaning and unit in the line below it; `tyro` turns these lines into `--help`. Unknown keys are
errors, and so is a setting that could have no effect (see training/effects.py). `kind` tags a member of a union in
config.json and is not a flag. (A file for each kind of settings also because tyro reads a class's whole file for its
help.)
"""

from .adapter import LowRankAdapter
from .config import (
    Config,
    dump_config,
    find_batch_terms,
    find_captioning,
    find_cross_view_terms,
    find_image_text,
    find_look_terms,
    find_pair_terms,
    find_reference,
    find_teacher_terms,
    find_whole_terms,
    list_teachers,
    load_config,
    needs_start,
    parse_config,
)
from .convolution import ConvEncoderConfig
from .data import AugmentConfig, CropConfig, DataConfig
from .model import CrossDecoder, EncoderConfig, MaskConfig, SelfDecoder
from .optim import OptimConfig
from .run import InitialWeights, RunConfig
from .teachers import (
    FeaturePreservation,
    ImageContrast,
    TeacherContrast,
    TeacherRegression,
    TeachersConfig,
    TeacherTable,
)
from .terms import (
    Captioning,
    ContrastAlignment,
    ImageTextContrast,
    PooledAlignment,
    Reconstruction,
    Term,
    TextContrast,
    TokenAlignment,
    VarianceCovariance,
    ViewContrast,
)
from .text import ReleasedReportDecoder, ReportDecoder, TextConfig
from .text_encoder import LanguageModelConfig, LanguageModelFile, TextEncoderConfig
from .weight import WeightConfig

__all__ = [
    "AugmentConfig",
    "Captioning",
    "Config",
    "ContrastAlignment",
    "ConvEncoderConfig",
    "CropConfig",
    "CrossDecoder",
    "DataConfig",
    "EncoderConfig",
    "FeaturePreservation",
    "ImageContrast",
    "ImageTextContrast",
    "InitialWeights",
    "LanguageModelConfig",
    "LanguageModelFile",
    "LowRankAdapter",
    "MaskConfig",
    "OptimConfig",
    "PooledAlignment",
    "Reconstruction",
    "ReleasedReportDecoder",
    "ReportDecoder",
    "RunConfig",
    "SelfDecoder",
    "TeacherContrast",
    "TeacherRegression",
    "TeacherTable",
    "TeachersConfig",
    "Term",
    "TextConfig",
    "TextContrast",
    "TextEncoderConfig",
    "TokenAlignment",
    "VarianceCovariance",
    "ViewContrast",
    "WeightConfig",
    "dump_config",
    "find_batch_terms",
    "find_captioning",
    "find_cross_view_terms",
    "find_image_text",
    "find_look_terms",
    "find_pair_terms",
    "find_reference",
    "find_teacher_terms",
    "find_whole_terms",
    "list_teachers",
    "load_config",
    "needs_start",
    "parse_config",
]
