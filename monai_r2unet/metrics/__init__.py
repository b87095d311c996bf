"""The paper's measures, with their tables and figures."""

from monai_r2unet.metrics.measures import CaseMeasures, ConfusionCounts, confusion, evaluate_case, summarize
from monai_r2unet.metrics.roc import RocHistogram, RocScores, roc_auc

__all__ = [
    "CaseMeasures",
    "ConfusionCounts",
    "RocHistogram",
    "RocScores",
    "confusion",
    "evaluate_case",
    "roc_auc",
    "summarize",
]
