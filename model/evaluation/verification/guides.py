"""Golden files of the networks that guide: the noised classifier and the noised CLIP.

They stay float32 in every setting, as the originals'.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model.checkpoints.architectures import classifier_from_adm_config, clip_from_config
from model.conditioning import Conditioning
from model.evaluation.verification.denoisers import given
from model.evaluation.verification.fill import filled
from model.evaluation.verification.golden import Golden
from model.networks.clip import LOGIT_SCALE, NoisedClip
from model.sampling.guides import ClassifierGuide, ClipGuide


def check_classifier(golden: Golden) -> None:
    """`adm_classifier_*`: logits, cross entropy and the gradient that guides."""
    golden.accept(("x", "timesteps", "y"))
    config = given(golden.meta["config"])
    network = filled(lambda: classifier_from_adm_config(config), golden.setting.device)
    golden.check_meta("num_params", sum(each.numel() for each in network.parameters()))
    x, timesteps = golden.tensor("x"), golden.tensor("timesteps")
    logits = network(x, timesteps)
    golden.check("logits", logits)
    if golden.has("xent"):
        golden.check("xent", F.cross_entropy(logits, golden.tensor("y").long(), reduction="none"))
    if golden.has("cond_grad"):
        conditioning = Conditioning(label=golden.tensor("y").long())
        gradient = ClassifierGuide(network)(x, timesteps, conditioning)
        golden.check("cond_grad", golden.meta["classifier_scale"] * gradient)


def noised_clip(golden: Golden, meta: Mapping[str, Any]) -> NoisedClip:
    """The encoders of `text` and `image`, each filled by itself."""
    with torch.device("meta"):
        clip = clip_from_config(given(meta["text"]), given(meta["image"]))
    device = golden.setting.device
    return NoisedClip(filled(lambda: clip.text, device), filled(lambda: clip.image, device))


def caption_features(golden: Golden, clip: NoisedClip) -> Tensor:
    """(B, E) the features of a file's captions, not normalized."""
    tokens, lengths = golden.tensor("text_tokens").long(), golden.tensor("text_len").long()
    features: Tensor = clip.text(tokens, lengths)
    return features


def check_clip(golden: Golden) -> None:
    """`clip_*`: features, unit vectors, similarity and the gradient that guides."""
    golden.accept(("text_tokens", "text_len", "x", "timesteps"))
    clip = noised_clip(golden, golden.meta)
    texts, pictures = golden.has("text_tokens"), golden.has("x")
    if texts:
        golden.check("text_features", lambda: caption_features(golden, clip))
        golden.check("text_emb", lambda: _captions(golden, clip))
    if pictures:
        x, timesteps = golden.tensor("x"), golden.tensor("timesteps")
        golden.check("image_features", lambda: clip.image(x, timesteps))
        golden.check("image_emb", lambda: clip.encode_image(x, timesteps))
    if texts and pictures:
        captions = _captions(golden, clip)
        images = clip.encode_image(x, timesteps)
        golden.check("sim_logits", LOGIT_SCALE * (captions * images).sum(-1))
        golden.check("cond_grad", lambda: _gradient(golden, clip, captions))


def _captions(golden: Golden, clip: NoisedClip) -> Tensor:
    tokens, lengths = golden.tensor("text_tokens").long(), golden.tensor("text_len").long()
    return clip.encode_text(tokens, lengths)


def _gradient(golden: Golden, clip: NoisedClip, captions: Tensor) -> Tensor:
    guide = ClipGuide(clip)
    conditioning = Conditioning(clip_text=captions)
    gradient = guide(golden.tensor("x"), golden.tensor("timesteps"), conditioning)
    scale: float = golden.meta["grad_scale"]
    return scale * gradient
