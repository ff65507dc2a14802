"""Every method, by its name."""

from heedmap.methods import baselines, generic, input_features, layers, spoken, states, value_zeroing
from heedmap.methods.method import Method

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        generic.GENERIC,
        baselines.RAW_ATTENTION,
        baselines.ROLLOUT,
        baselines.ATTENTION_GRADCAM,
        baselines.PARTIAL_LRP,
        baselines.TRANSFORMER_ATTRIBUTION,
        baselines.FULL_LRP,
        baselines.RANDOM,
        baselines.ATTN_LRP,
        layers.ATTENTION_X_GRADIENT,
        layers.LEGRAD,
        input_features.INPUT_X_GRADIENT,
        input_features.INTEGRATED_GRADIENTS,
        input_features.SMOOTHGRAD,
        input_features.GRADIENT_SHAP,
        input_features.OCCLUSION,
        states.TOKEN_TM,
        value_zeroing.VALUE_ZEROING,
        layers.GRAD_ECLIP,
        generic.LIBRA_GENERIC,
        input_features.LIBRA_INPUT_X_GRADIENT,
        states.ATTCAT,
        states.FULLGRAD_PLUS,
        spoken.TAM,
        spoken.DEX_AR,
        generic.HEEDMAP,
    )
}
