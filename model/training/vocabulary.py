"""What the data set's closed vocabulary decides: token ids, sizes of embeddings, number of classes.

Knows words and shapes; nothing of pictures or iterations.
"""

from dataclasses import replace

from tokenizers import Tokenizer

from model.networks.classifier import ClassifierConfig
from model.networks.clip import ClipConfig
from model.networks.unet import UNetConfig
from model.scenes.captions import words
from model.scenes.lexicon import CORE, FULL, Vocabulary
from model.text.bpe import END, START, ClipTokenizer
from model.text.tokenizer import CaptionTokenizer, word_tokenizer
from model.training.config import TrainingConfig

VOCABULARIES: dict[str, Vocabulary] = {"core": CORE, "full": FULL}


def stage_tokenizer(config: TrainingConfig) -> Tokenizer:
    """What becomes a pipeline's `tokenizer.json`: the data set's words."""
    return word_tokenizer(words(VOCABULARIES[config.vocabulary]))


def clip_tokenizer(config: TrainingConfig) -> Tokenizer:
    """What becomes its `clip_tokenizer.json`: the same words, then CLIP's start and end."""
    return word_tokenizer([*words(VOCABULARIES[config.vocabulary]), START, END])


def tokenizer_for(config: TrainingConfig) -> CaptionTokenizer | ClipTokenizer:
    """How the network in training reads captions; any way does for one that reads none."""
    match config.network:
        case ClipConfig(text=text):
            return ClipTokenizer(clip_tokenizer(config), text.context)
        case UNetConfig(text=text) if text is not None:
            return CaptionTokenizer(stage_tokenizer(config), text.context)
    return CaptionTokenizer(stage_tokenizer(config), 1)


def with_vocabulary(config: TrainingConfig) -> TrainingConfig:
    """A configuration with the size of the text vocabulary, or the number of classes, filled in."""
    network = config.network
    match network:
        case ClipConfig():
            text = replace(network.text, vocabulary=clip_tokenizer(config).get_vocab_size())
            return replace(config, network=replace(network, text=text))
        case ClassifierConfig():
            classes = len(VOCABULARIES[config.vocabulary].backgrounds)
            trunk = replace(network.trunk, out_channels=classes)
            return replace(config, network=replace(network, trunk=trunk))
        case UNetConfig() if network.text is not None:
            size = stage_tokenizer(config).get_vocab_size()
            text_config = replace(network.text, vocabulary=size)
            return replace(config, network=replace(network, text=text_config))
    return config
