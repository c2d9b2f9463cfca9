"""Model directories as people bring them: small random weights under a tokenizer that was trained.

`family` writes one of each family; `change_json` and the arguments spoil it as a test wants.
"""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedTokenizerFast

from lotterylib.data.grammar import generate
from lotterylib.data.loading import quiet_transformers

WORDPIECE = ("bert", "electra", "distilbert", "mpnet")
KINDS = ("bert", "roberta", "electra", "mpnet", "distilbert")
"""A family for each of transformers' codes that differ; the others are copies of RoBERTa's."""

_CLASSES = {
    "bert": "BertTokenizer",
    "electra": "ElectraTokenizer",
    "distilbert": "DistilBertTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
}


def texts():
    """Sentences, some of them in capitals."""
    sentences = generate("acceptability", "train", 200)["sentence"]
    return [*sentences, *(text.upper() for text in sentences[:20])]


def tokenizer_of(model_type, lowercase=True, size=220, sentences=None):
    """A tokenizer of the family's kind, trained on a few sentences."""
    begin, pad, end, unknown, mask = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
    if model_type in ("bert", "electra", "distilbert"):
        begin, pad, end, unknown, mask = "[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"
        marks = [pad, unknown, begin, end, mask]
    else:  # the ids that these families' code expects
        marks = [begin, pad, end, unknown, mask]
    if model_type == "mpnet":
        unknown = marks[3] = "[UNK]"
    if model_type == "camembert":
        marks += ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"]
    if model_type in WORDPIECE:
        made = Tokenizer(models.WordPiece(unk_token=unknown))
        made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=marks, show_progress=False
        )
    elif model_type == "roberta":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=size + 256,
            special_tokens=marks,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=marks, unk_token=unknown, show_progress=False
        )
    made.train_from_iterator(sentences or texts(), trainer)
    first, last = ((each, made.token_to_id(each)) for each in (begin, end))
    kind = processors.BertProcessing if begin == "[CLS]" else processors.RobertaProcessing
    made.post_processor = kind(last, first)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        **{"cls_token": begin, "bos_token": begin, "sep_token": end, "eos_token": end},
        **{"pad_token": pad, "unk_token": unknown, "mask_token": mask},
    )


def family_config(model_type, **config):
    """A small configuration of a family, with some values in place of these."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes["hidden_dim" if model_type == "distilbert" else "intermediate_size"] = 40
    if model_type == "electra":
        sizes["embedding_size"] = 12
    return CONFIG_MAPPING[model_type](**(sizes | config))


def family(folder, model_type, weights=None, tokenizer=None, shard=None, lowercase=True, **config):
    """Write a model directory of a family and return its path.

    `weights` changes the model before it is written, `tokenizer` stands in place of the one that is
    trained, which without `lowercase` knows capitals, `shard` is the largest size of a shard.
    """
    folder = Path(folder)
    tokenizer = tokenizer or tokenizer_of(model_type, lowercase)
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 140}
    sizes |= {"pad_token_id": tokenizer.pad_token_id, "initializer_range": 0.2}
    if model_type in ("roberta", "xlm-roberta", "camembert"):
        sizes["type_vocab_size"] = 1
    with torch.random.fork_rng(), quiet_transformers():
        torch.manual_seed(0)
        model = AutoModel.from_config(family_config(model_type, **(sizes | config)))
        if weights:
            weights(model)
        model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    tokenizer.save_pretrained(folder)
    change_json(
        folder / "tokenizer_config.json",
        tokenizer_class=_CLASSES[model_type],
        **({"do_lower_case": lowercase} if model_type in WORDPIECE else {}),
    )
    return folder


def change_json(file, *without, **values):
    """Set some values of a JSON file and take others out."""
    found = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: found[name] for name in found if name not in without}))
