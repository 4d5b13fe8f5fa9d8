"""Families of networks that are known to work, and the table of them in `docs/models.md`.

`python -m eesearch.testing.families` prints the table. Weights are random and inputs small: what is shown is how they
are split, not what they know.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from eesearch.nets.adapters import adapter_of
from eesearch.nets.backbone import Backbone
from eesearch.nets.sources import build_model
from eesearch.nets.split import split
from eesearch.nets.vision import need_vision
from eesearch.testing.seeds import seeded

CLASSES = 5


@dataclass(frozen=True)
class Member:
    """One network of a family.

    Attributes:
        family: As people call it.
        source: As a study names it.
        args: Of the source, beside the number of classes.
        shape: Of a raw sample; of text, [T].
        note: What a user should know.
    """

    family: str
    source: str
    args: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = (3, 64, 64)
    note: str = ""

    @property
    def name(self) -> str:
        """Of the network alone."""
        return self.source.rpartition(":")[2]

    def build(self) -> tuple[nn.Module, Tensor]:
        """The network with random weights, and raw samples [4, ...]; of text, with padding."""
        with seeded(0):
            if self.source.startswith("hf:"):
                model = _encoder(self.name, self.args)
            else:
                name = "classes" if self.source.startswith("eesearch.") else "num_classes"
                model = build_model(self.source, {name: CLASSES, **self.args}, 0)
            if len(self.shape) > 1 or not self.source.startswith("hf:"):
                x = torch.rand(4, *self.shape)
                return _settled(model, x), x
            ids = torch.randint(3, 50, (4, *self.shape))
            ids[1, self.shape[0] // 2 :] = ids[2, 3:] = 0
            return model, ids


def _settled(model: nn.Module, x: Tensor) -> nn.Module:
    """Batch norms know these samples: with those of no samples, the states of deep networks would vanish."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
    if norms:
        with torch.no_grad():
            model.train()(x)
    return model.eval()


_TEXT = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 50,
    "max_position_embeddings": 40, "pad_token_id": 0,
}  # fmt: skip
_PATCHES = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
_DISTIL = {"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 64, "vocab_size": 50, "pad_token_id": 0}
_SIZED = {"img_size": 64}

MEMBERS = (
    Member("AlexNet", "torchvision:alexnet"),
    Member("VGG", "torchvision:vgg11_bn"),
    Member("VGG", "timm:vgg11", {"in_chans": 1}, (1, 64, 64)),
    Member("ResNet", "torchvision:resnet18"),
    Member("ResNet", "timm:resnet18"),
    Member("ResNet of CIFAR", "eesearch.nets.zoo:cifar_resnet", {"depth": 8}, (3, 16, 16)),
    Member("SE-ResNet", "timm:seresnet18"),
    Member("ResNeXt", "torchvision:resnext50_32x4d"),
    Member("Res2Net", "timm:res2net50_26w_4s"),
    Member("RegNet", "timm:regnetx_002"),
    Member("RegNet", "timm:regnety_002"),
    Member("NF-RegNet", "timm:nf_regnet_b0"),
    Member("DenseNet", "torchvision:densenet121", note="after its transitions; inside a block all earlier maps live"),
    Member("SqueezeNet", "torchvision:squeezenet1_1", shape=(3, 96, 96)),
    Member("GoogLeNet", "torchvision:googlenet", {"aux_logits": False, "init_weights": False}, (3, 96, 96)),
    Member("MobileNet v2", "torchvision:mobilenet_v2"),
    Member("MobileNet v3", "torchvision:mobilenet_v3_small"),
    Member("MobileNet v3", "timm:mobilenetv3_small_050"),
    Member("MobileNet v4", "timm:mobilenetv4_conv_small"),
    Member("MNASNet", "torchvision:mnasnet0_5"),
    Member("ShuffleNet v2", "torchvision:shufflenet_v2_x0_5"),
    Member("EfficientNet", "torchvision:efficientnet_b0"),
    Member("EfficientNet Lite", "timm:tf_efficientnet_lite0"),
    Member("LCNet", "timm:lcnet_050"),
    Member("TinyNet", "timm:tinynet_e"),
    Member("RepVGG", "timm:repvgg_a0", note="reparameterise before the study"),
    Member("DLA", "timm:dla34"),
    Member("HRNet", "timm:hrnet_w18_small", note="only before and after its parallel branches"),
    Member("VoVNet", "timm:vovnet39a"),
    Member("SelecSLS", "timm:selecsls42b"),
    Member("ConvNeXt", "timm:convnext_atto"),
    Member("InceptionNeXt", "timm:inception_next_atto"),
    Member("EdgeNeXt", "timm:edgenext_xx_small"),
    Member("MobileViT", "timm:mobilevit_xxs"),
    Member("MobileViT v2", "timm:mobilevitv2_050"),
    Member("PoolFormer", "timm:poolformer_s12"),
    Member("ViT", "timm:vit_tiny_patch16_224", _SIZED),
    Member("ViT", "torchvision:vit_b_32", {"image_size": 64}),
    Member("ViT", "eesearch.nets.zoo:transformer", {"depth": 4}, (1, 8, 8)),
    Member("DeiT", "timm:deit_tiny_patch16_224", _SIZED),
    Member("BEiT", "timm:beit_base_patch16_224", {**_SIZED, "depth": 4, "embed_dim": 96, "num_heads": 3}),
    Member("CaiT", "timm:cait_xxs24_224", {**_SIZED, "depth": 4}),
    Member("XCiT", "timm:xcit_nano_12_p16_224", {**_SIZED, "depth": 4}),
    Member("PVT v2", "timm:pvt_v2_b0"),
    Member("Swin", "timm:swin_tiny_patch4_window7_224", {"img_size": 56, "depths": (1, 1, 2, 1)}, (3, 56, 56)),
    Member("MLP-Mixer", "timm:mixer_s32_224", _SIZED),
    Member("ViT", "hf:ViTForImageClassification", _PATCHES, (3, 32, 32)),
    Member("DeiT", "hf:DeiTForImageClassification", _PATCHES, (3, 32, 32)),
    Member("DeiT", "hf:DeiTForImageClassificationWithTeacher", _PATCHES, (3, 32, 32)),
    Member("BERT", "hf:BertForSequenceClassification", _TEXT, (12,)),
    Member("RoBERTa", "hf:RobertaForSequenceClassification", _TEXT, (12,)),
    Member("ELECTRA", "hf:ElectraForSequenceClassification", {**_TEXT, "embedding_size": 16}, (12,)),
    Member("DistilBERT", "hf:DistilBertForSequenceClassification", _DISTIL, (12,)),
    Member("CNN of audio", "eesearch.nets.series:audio_cnn", {}, (1, 256)),
    Member("LSTM", "eesearch.nets.series:recurrent", {"kind": "lstm", "features": 6, "steps": 20}, (20, 6)),
    Member("GRU", "eesearch.nets.series:recurrent", {"kind": "gru", "features": 6, "steps": 20}, (20, 6)),
    Member("MLP", "eesearch.nets.zoo:mlp", {"features": 16, "hidden": (32, 32, 32, 32)}, (16,)),
)


def _encoder(name: str, args: Mapping[str, Any]) -> nn.Module:
    """A classifier of transformers with random weights, from its settings."""
    transformers = need_vision("transformers", "hf")
    of_class = getattr(transformers, name)
    model: nn.Module = of_class(of_class.config_class(num_labels=CLASSES, **args))
    return model


def row(member: Member) -> str:
    """A line of the table: family, network, how it is followed, cuts, the first and the last of them, note."""
    model, x = member.build()
    backbone = split(model.eval(), x)
    return line(member, backbone, by_adapter=adapter_of(model) is not None)


def line(member: Member, backbone: Backbone, *, by_adapter: bool) -> str:
    """The same of a network that is split already."""
    kinds = sorted({cut.kind for cut in backbone.cuts})
    ends = [f"`{cut.name}` {list(cut.shape)}" for cut in (backbone.cuts[0], backbone.cuts[-1])]
    how = "adapter" if by_adapter else "traced"
    cells = [member.family, f"`{member.source}`", how, str(len(backbone.cuts)), ", ".join(kinds), *ends, member.note]
    return f"| {' | '.join(cells)} |"


HEADER = """| family | network | followed | cuts | kinds | first | last | notes |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    """Print the table."""
    need_vision("timm", "vision")
    for text in chain([HEADER], map(row, MEMBERS)):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
