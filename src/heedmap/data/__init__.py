"""What an explanation is, as plain data: segments, flow, pictures, answers, files; it knows nothing of models."""
