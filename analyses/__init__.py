"""One question per file; each is a function of the file's name, and returns a finding.

The folders hold their parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.lazy import lazy

if TYPE_CHECKING:
    from layerscope.analyses import sae as sae
    from layerscope.analyses import training as training
    from layerscope.analyses.attention_modes import attention_modes as attention_modes
    from layerscope.analyses.attribution_patching import (
        attribution_patching as attribution_patching,
    )
    from layerscope.analyses.back_patching import back_patching as back_patching
    from layerscope.analyses.causal_tracing import causal_tracing as causal_tracing
    from layerscope.analyses.clusters import clusters as clusters
    from layerscope.analyses.concept_erasure import concept_erasure as concept_erasure
    from layerscope.analyses.depth_use import depth_use as depth_use
    from layerscope.analyses.direct_logits import direct_logits as direct_logits
    from layerscope.analyses.erasure import erasure as erasure
    from layerscope.analyses.ffn_skip import ffn_skip as ffn_skip
    from layerscope.analyses.generalisation_gap import generalisation_gap as generalisation_gap
    from layerscope.analyses.geometry import geometry as geometry
    from layerscope.analyses.information_plane import information_plane as information_plane
    from layerscope.analyses.integrated_gradients import (
        integrated_gradients as integrated_gradients,
    )
    from layerscope.analyses.knock_out import knock_out as knock_out
    from layerscope.analyses.label_errors import label_errors as label_errors
    from layerscope.analyses.layer_drop import layer_drop as layer_drop
    from layerscope.analyses.layer_programs import layer_programs as layer_programs
    from layerscope.analyses.layer_similarity import layer_similarity as layer_similarity
    from layerscope.analyses.layer_skip import layer_skip as layer_skip
    from layerscope.analyses.learning_regime import learning_regime as learning_regime
    from layerscope.analyses.lens import lens as lens
    from layerscope.analyses.lens_tokens import lens_tokens as lens_tokens
    from layerscope.analyses.linear_maps import linear_maps as linear_maps
    from layerscope.analyses.mutual_information import mutual_information as mutual_information
    from layerscope.analyses.parallel_windows import parallel_windows as parallel_windows
    from layerscope.analyses.patching import patching as patching
    from layerscope.analyses.similarity import similarity as similarity
    from layerscope.analyses.slices import slices as slices
    from layerscope.analyses.sparsity import sparsity as sparsity
    from layerscope.analyses.survey import survey as survey
    from layerscope.analyses.task_geometry import task_geometry as task_geometry
    from layerscope.analyses.word_classes import word_classes as word_classes

__all__ = [
    "attention_modes",
    "attribution_patching",
    "back_patching",
    "causal_tracing",
    "clusters",
    "concept_erasure",
    "depth_use",
    "direct_logits",
    "erasure",
    "ffn_skip",
    "generalisation_gap",
    "geometry",
    "information_plane",
    "integrated_gradients",
    "knock_out",
    "label_errors",
    "layer_drop",
    "layer_programs",
    "layer_similarity",
    "layer_skip",
    "learning_regime",
    "lens",
    "lens_tokens",
    "linear_maps",
    "mutual_information",
    "parallel_windows",
    "patching",
    "similarity",
    "slices",
    "sparsity",
    "survey",
    "task_geometry",
    "word_classes",
]

__getattr__, __dir__ = lazy(
    __name__, {name: f".{name}" for name in __all__}, modules=("sae", "training")
)
