"""The variables of the models that an optimizer's step is measured on."""

import math

Shapes = dict[str, tuple[int, ...]]  # By path.


def resnet50() -> Shapes:
    """Returns ResNet-50's 161 variables, of 25,557,032 parameters.

    >>> count(resnet50()), len(resnet50())
    (25557032, 161)
    """
    shapes = {**convolution("stem", 7, 3, 64)}
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            scope = f"stage_{stage}/block_{block}"
            if not block:
                shapes |= convolution(f"{scope}/0", 1, channels, 4 * width)
            shapes |= convolution(f"{scope}/1", 1, channels, width)
            shapes |= convolution(f"{scope}/2", 3, width, width)
            shapes |= convolution(f"{scope}/3", 1, width, 4 * width)
            channels = 4 * width
    return {**shapes, **dense("head", (channels,), (1000,))}


def convolution(scope: str, size: int, inputs: int, outputs: int) -> Shapes:
    """Returns a convolution without bias, and its batch norm."""
    kernel = {f"{scope}/kernel": (size, size, inputs, outputs)}
    return {**kernel, **norm(scope, outputs)}


def norm(scope: str, size: int) -> Shapes:
    """Returns a batch norm's or a layer norm's variables."""
    return {f"{scope}/norm/{name}": (size,) for name in ("gamma", "beta")}


def dense(
    scope: str, inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> Shapes:
    """Returns kernel and bias."""
    return {f"{scope}/kernel": (*inputs, *outputs), f"{scope}/bias": outputs}


def bert_base() -> Shapes:
    """Returns BERT-Base's 206 variables, with both heads of pretraining.

    >>> count(bert_base()), len(bert_base())
    (110106428, 206)
    """
    width, heads, inner = 768, (12, 64), 3072
    shapes: dict[str, tuple[int, ...]] = {
        "word/embeddings": (30522, width),
        "position/embeddings": (512, width),
        "type/embeddings": (2, width),
        **norm("embeddings", width),
    }
    for layer in range(12):
        scope = f"layer_{layer}"
        for name in ("query", "key", "value"):
            shapes |= dense(f"{scope}/{name}", (width,), heads)
        shapes |= dense(f"{scope}/attention", heads, (width,))
        shapes |= norm(f"{scope}/attention", width)
        shapes |= dense(f"{scope}/intermediate", (width,), (inner,))
        shapes |= dense(f"{scope}/output", (inner,), (width,))
        shapes |= norm(f"{scope}/output", width)
    shapes |= dense("pooler", (width,), (width,))
    shapes |= dense("words", (width,), (width,)) | norm("words", width)
    shapes["words/output/bias"] = (30522,)
    return shapes | dense("next_sentence", (width,), (2,))


def count(shapes: Shapes) -> int:
    """Returns how many parameters there are."""
    return sum(map(math.prod, shapes.values()))


def small() -> Shapes:
    """Returns a few variables, for a trial of the benchmark itself."""
    return dense("hidden", (64,), (128,)) | norm("hidden", 128)


SIZES = {"resnet50": resnet50, "bert_base": bert_base, "small": small}
