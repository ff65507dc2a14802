"""Every method, by its name."""

from heedmap.methods import (
    activations,
    dex_ar,
    generic,
    grad_eclip,
    gradients,
    layers,
    libra,
    located,
    occlusion,
    propagation,
    random,
    rollout,
    tam,
    token_tm,
    value_zeroing,
)
from heedmap.methods.method import Method

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        generic.METHOD,
        layers.RAW_ATTENTION,
        rollout.METHOD,
        layers.ATTENTION_GRADCAM,
        propagation.PARTIAL_LRP,
        propagation.TRANSFORMER_ATTRIBUTION,
        propagation.FULL_LRP,
        random.METHOD,
        propagation.ATTN_LRP,
        layers.ATTENTION_X_GRADIENT,
        layers.LEGRAD,
        gradients.INPUT_X_GRADIENT,
        gradients.INTEGRATED_GRADIENTS,
        gradients.SMOOTHGRAD,
        gradients.GRADIENT_SHAP,
        occlusion.METHOD,
        token_tm.METHOD,
        value_zeroing.METHOD,
        grad_eclip.METHOD,
        libra.GENERIC,
        libra.INPUT_X_GRADIENT,
        activations.ATTCAT,
        activations.FULLGRAD_PLUS,
        tam.METHOD,
        dex_ar.METHOD,
        located.METHOD,
    )
}
