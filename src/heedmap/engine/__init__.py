"""From a model and its inputs to explanations: recording, target, gradients, method, and the result cut into segments."""
